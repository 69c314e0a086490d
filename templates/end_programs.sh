# Asks all programs in a container to end, but for its init and the server, and waits until they have.
# Docker's stop reaches only the init, and kills the others once the server has ended. Who ignores SIGTERM,
# as a shell at a prompt does, is not waited for.
all= server=
for stat in /proc/[0-9]*/stat; do
    read -r line 2>/dev/null < "$stat" || continue
    pid=${line%% *}
    set -- ${line##*) }
    [ "$pid" -eq 1 ] || [ "$pid" -eq $$ ] && continue
    all="$all $pid"
    if [ "$2" -eq 1 ] && { [ -z "$server" ] || [ "$pid" -lt "$server" ]; }; then server=$pid; fi
done
asked=
for pid in $all; do
    [ "$pid" = "$server" ] && continue
    ignored=0
    while read -r key value; do
        [ "$key" = SigIgn: ] && ignored=$((0x$value & 0x4000))
    done 2>/dev/null < "/proc/$pid/status"
    kill -TERM "$pid" 2>/dev/null && [ "$ignored" -eq 0 ] && asked="$asked $pid"
done
for pid in $asked; do
    while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
done
