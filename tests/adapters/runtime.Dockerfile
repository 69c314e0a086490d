# A relocatable Python at /opt/python, as the trait runtime_image asks for: Debian's own, with the
# libraries that it needs beside it and found relative to where it lies.
ARG BASE
FROM $BASE
RUN --mount=type=tmpfs,target=/var/lib/apt/lists apt-get update && apt-get install -y --no-install-recommends patchelf
RUN mkdir -p /opt/python/bin /opt/python/lib/deps && \
    cp /usr/bin/python3.11 /opt/python/bin/python3 && \
    cp -a /usr/lib/python3.11 /opt/python/lib/ && \
    cp -a /usr/share/python-wheels /opt/python/wheels && \
    sed -i "s#/usr/share/python-wheels#/opt/ds01/python/wheels#" /opt/python/lib/python3.11/_sysconfigdata_*.py && \
    rm -f /opt/python/lib/python3.11/EXTERNALLY-MANAGED && \
    find /opt/python -name "*.so" -o -name python3 -type f | xargs ldd | grep -o "=> /[^ ]*" | cut -c4- | \
        grep -v -E "/(libc|libm|libpthread|libdl|libutil|librt|ld-linux[^/]*)\.so" | sort -u | \
        xargs -I{} cp -L {} /opt/python/lib/deps/ && \
    patchelf --set-rpath '$ORIGIN/../lib/deps' /opt/python/bin/python3 && \
    find /opt/python/lib/python3.11 -name "*.so" -exec patchelf --set-rpath '$ORIGIN/../../deps' {} + && \
    find /opt/python/lib/deps -name "*.so*" -exec patchelf --set-rpath '$ORIGIN' {} +
