"""What goes into an image: its tag, its Dockerfile, the files beside it, and what a base must bring.

Every value that reaches the Dockerfile is checked here against a full match; lists of packages travel
as files of the build context and never meet a shell. The tag is a hash of everything that goes in, so
that an image that was built before is found without asking for a build; its first part leaves the
bytes of the base out, so that it is found as well when the base was pulled anew. The hub layer is an
environment of its own, and the kernel runs in the image's own Python, so neither can break the other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from types import MappingProxyType

from jinja2 import Environment, StrictUndefined, Template
from packaging.version import InvalidVersion, Version

from ds01_spawner.errors import ConfigBroken, ImageFailed
from ds01_spawner.model import ImageSpec

REPOSITORY = "ds01/image"
HUB_PREFIX = "/opt/ds01/hub"
HUB_PYTHON = f"{HUB_PREFIX}/bin/python"
RUNTIME_SOURCE = "/opt/python"

# Raise it when this module changes what an image holds in a way that nothing else in the tag shows.
RECIPE = 1
OLDEST_HUB_PYTHON = (3, 10)
HUB_PACKAGES = ("jupyterlab>=4,<5", "notebook>=7,<8", "jupyterlab-widgets>=3,<4")
# Without a lower bound pip would rather go back to a kernel of years ago than report a conflict.
KERNEL_PACKAGES = ('ipykernel>=6.29; python_version >= "3.8"', 'ipykernel; python_version < "3.8"')

# DS01's own lists. Its `jupyter jupyterlab notebook` are the hub layer here; what a notebook imports stays.
DEFAULT_BASE_SYSTEM_PACKAGES = ("curl", "git", "htop", "vim", "wget")
DEFAULT_BASE_PACKAGES = ("ipywidgets", "matplotlib", "pandas", "scikit-learn", "scipy", "seaborn")
DEFAULT_USE_CASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "none": (),
        "cv": ("albumentations", "opencv-python-headless", "timm", "torchvision"),
        "nlp": ("accelerate", "datasets", "sentencepiece", "tokenizers", "transformers"),
        "rl": ("gymnasium", "stable-baselines3", "tensorboard"),
        "ml": ("catboost", "lightgbm", "optuna", "xgboost"),
    }
)

PROBE_SCRIPT = """\
probe='
import sys
print("ds01.python=" + sys.executable)
print("ds01.version=%d.%d.%d" % tuple(sys.version_info[:3]))
for name in ("pip", "venv", "ensurepip"):
    try:
        __import__(name)
        print("ds01." + name + "=yes")
    except Exception:
        pass
'
for name in python3 python; do
    if command -v "$name" >/dev/null 2>&1 && "$name" -c "$probe" 2>/dev/null; then break; fi
done
for name in bash apt-get; do
    if command -v "$name" >/dev/null 2>&1; then echo "ds01.$name=yes"; fi
done
echo "ds01.architecture=$(uname -m)"
echo "ds01.end=yes"
"""

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._+/-]{1,254}", re.ASCII)
_NOT_ONE_NAME = re.compile(r"^[- ]| [-#]|\\|\$\{")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseProbe:
    """What `PROBE_SCRIPT` found in a base image.

    `python` is the absolute path of the Python on its PATH, "" when there is none; `version` is
    () then. `has_venv` means that `python -m venv` gives an environment with pip.
    """

    python: str = ""
    version: tuple[int, ...] = ()
    has_pip: bool = False
    has_venv: bool = False
    has_apt: bool = False
    has_bash: bool = False
    architecture: str = ""

    @property
    def runs_kernel(self) -> bool:
        """Whether the image's own Python can take the notebook kernel."""
        return self.has_pip and self.version >= (3,)

    @property
    def runs_hub(self) -> bool:
        """Whether the image's own Python can hold the notebook server as well."""
        return self.runs_kernel and self.version >= OLDEST_HUB_PYTHON


def parse_probe(text: str) -> BaseProbe:
    """Read what `PROBE_SCRIPT` printed; other lines are ignored.

    Raises:
        ImageFailed: the script did not come to its end, or printed what no Python prints.
    """
    found = dict(re.findall(r"^ds01\.([a-z-]+)=(.*?)\r?$", text, flags=re.MULTILINE))
    python = found.get("python", "")
    if "end" not in found or (python and _PATH.fullmatch(python) is None):
        raise ImageFailed(
            "The base image could not be examined. Choose another base image, or tell your admin.",
            detail=text[-2000:],
        )
    version = found.get("version", "") if python else ""
    return BaseProbe(
        python=python,
        version=tuple(int(part) for part in version.split(".") if part.isdecimal()),
        has_pip="pip" in found,
        has_venv="venv" in found and "ensurepip" in found,
        has_apt="apt-get" in found,
        has_bash="bash" in found,
        architecture=found.get("architecture", ""),
    )


def check_reference(base: str) -> str:
    """Return `base`, the name of an image such as `ubuntu:24.04`.

    Raises:
        ImageFailed: it has a character that no such name has.
    """
    if _REFERENCE.fullmatch(base) is None:
        raise ImageFailed(f"{base[:80]!r} is not the name of an image. Choose another base image.")
    return base


def check_base(spec: ImageSpec, probe: BaseProbe) -> None:
    """Refuse, before any build, a base on which the image cannot work.

    Raises:
        ImageFailed: no bash, no Python that will do and no runtime image, or system packages without apt.
    """
    if not probe.has_bash:
        raise ImageFailed(
            f"The base image {spec.base} has no bash, which terminals and mlc-open need. Choose another one."
        )
    if spec.system_packages and not probe.has_apt:
        raise ImageFailed(
            f"The base image {spec.base} has no apt, so no system packages can be installed. "
            "Leave them out, or choose another base image."
        )
    if probe.runs_hub or spec.runtime_image:
        return
    needed = ".".join(map(str, OLDEST_HUB_PYTHON))
    if not probe.version:
        found = "has no Python"
    elif probe.version < OLDEST_HUB_PYTHON:
        found = f"has Python {'.'.join(map(str, probe.version))}"
    else:
        found = "has a Python without pip"
    raise ImageFailed(
        f"The base image {spec.base} {found}, but JupyterHub {spec.hub_version} needs Python {needed} or "
        "newer, with pip. Choose another version of the framework, or ask your admin to set a runtime image."
    )


def content(spec: ImageSpec, template_text: str) -> str:
    """Return `ds01/image:<16 hex digits>`, what all images of `spec` are called, on whichever base id."""
    asked = replace(spec, base_id="", runtime_id="")
    parts = [RECIPE, HUB_PACKAGES, KERNEL_PACKAGES, template_text, asdict(asked)]
    return f"{REPOSITORY}:{_digest(parts, 16)}"


def tag(spec: ImageSpec, template_text: str) -> str:
    """Return `<content>-<12 hex digits>`, the name of the image that `spec` and the template make."""
    return f"{content(spec, template_text)}-{on_base(spec.base_id, spec.runtime_id)}"


def on_base(base_id: str, runtime_id: str) -> str:
    """Return the 12 hex digits that end the name of every image on this base, with this runtime."""
    return _digest([base_id, runtime_id], 12)


def abbreviate(name: str) -> str:
    """Return the name of an image in short, e.g. `0f3a99c1-27bd`: the beginnings of both its parts."""
    content_digits, _, base_digits = name.removeprefix(f"{REPOSITORY}:").partition("-")
    return f"{content_digits[:8]}-{base_digits[:4]}".rstrip("-")


def find_named(text: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of `names` that `text` may mean: a whole name, or beginnings of its one or both parts."""
    wanted = text.strip().removeprefix(f"{REPOSITORY}:").partition("-")
    found = []
    for name in dict.fromkeys(names):
        parts = name.removeprefix(f"{REPOSITORY}:").partition("-")
        if wanted[0] and parts[0].startswith(wanted[0]) and parts[2].startswith(wanted[2]):
            found.append(name)
    return tuple(found)


def render_dockerfile(spec: ImageSpec, probe: BaseProbe, template_text: str) -> str:
    """Return the Dockerfile of `spec` on a base that looks like `probe`.

    Raises:
        ImageFailed: the base will not do (see `check_base`), or its name is not one.
        ConfigBroken: the runtime image or a label is not valid.
    """
    check_base(spec, probe)
    check_reference(spec.base)
    if spec.runtime_image and _REFERENCE.fullmatch(spec.runtime_image) is None:
        raise ConfigBroken(f"runtime_image: {spec.runtime_image[:80]!r} is not the name of an image.")
    return _compile(template_text).render(
        spec=spec,
        probe=probe,
        hub=HUB_PREFIX,
        runtime_source=RUNTIME_SOURCE,
        maker_python=probe.python if probe.runs_hub else _RUNTIME_PYTHON,
        kernel_python=_kernel_python(probe),
        # As long as it is: whoever finds a name with the same key shares the base's cache, and writes to it.
        cache_key=hashlib.sha256(spec.base.encode()).hexdigest(),
        labels=[quote_label(key, value) for key, value in spec.labels],
    )


def context_files(spec: ImageSpec, probe: BaseProbe) -> Mapping[str, bytes]:
    """Return the files of the build context, by name: lists of packages and the kernel's description.

    Raises:
        ConfigBroken: the Hub's version is none, or a package is an option or more than one line, for pip
            too, which joins lines at a backslash, fills in ${NAME}, and cuts at " #" and " -".
    """
    try:
        hub_version = Version(spec.hub_version)
    except InvalidVersion as exc:
        raise ConfigBroken(f"{spec.hub_version[:40]!r} is not a version of JupyterHub.") from exc
    kernel = {
        "argv": [_kernel_python(probe), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {"debugger": True},
    }
    return {
        "kernel.json": json.dumps(kernel, indent=1).encode(),
        "hub.txt": _list_lines((f"jupyterhub=={hub_version}", *HUB_PACKAGES)),
        "kernel.txt": _list_lines(KERNEL_PACKAGES),
        "base-system.txt": _list_lines(spec.base_system_packages),
        "base.txt": _list_lines(spec.base_packages),
        "use-case.txt": _list_lines(spec.use_case_packages),
        "system.txt": _list_lines(spec.system_packages),
        "packages.txt": _list_lines(spec.packages),
        "requirements.txt": _list_lines(spec.requirements),
    }


def quote_label(key: str, value: str) -> str:
    """Return `"key"="value"` as a Dockerfile reads it back.

    Raises:
        ConfigBroken: one of them cannot be in a label.
    """
    if _LABEL.fullmatch(key) is None or not value.isprintable():
        raise ConfigBroken(f"The label {key[:60]!r} of images, or its value, has characters it may not have.")
    if "," in value:
        raise ConfigBroken(f"The label {key} has a comma in its value, which mlc list cannot read. Use ';'.")
    escaped = re.sub(r'([\\"$])', r"\\\1", value)
    return f'"{key}"="{escaped}"'


_RUNTIME_PYTHON = "/opt/ds01/python/bin/python3"
_KERNEL_ENVIRONMENT_PYTHON = "/opt/ds01/kernel/bin/python"


@cache
def _compile(template_text: str) -> Template:
    environment = Environment(
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - a Dockerfile is not HTML; each value was matched in full
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(template_text)


def _kernel_python(probe: BaseProbe) -> str:
    return probe.python if probe.runs_kernel else _KERNEL_ENVIRONMENT_PYTHON


def _digest(value: object, digits: int) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:digits]


def _list_lines(items: Iterable[str]) -> bytes:
    lines = tuple(items)
    for line in lines:
        if not line or not line.isprintable() or _NOT_ONE_NAME.search(line):
            raise ConfigBroken(f"{line[:60]!r} in a list of packages is not the name of a package.")
    return "".join(f"{line}\n" for line in lines).encode()
