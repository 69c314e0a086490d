"""Where our templates are, and the one Jinja environment that renders them.

In the wheel they lie inside the package, in a checkout (an editable install) beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from .errors import ConfigBroken

SESSION_FILE = "/opt/ds01/session.json"
"""What JupyterLab tells of its server, in the container; the user's own file, so that root writes nothing."""

_LAB_EXTENSION = "/opt/ds01/hub/share/jupyter/labextensions/ds01-session"
_PROGRAMS = MappingProxyType(
    {
        "/opt/ds01/start.py": "start.py",
        "/opt/ds01/lib/ds01_session.py": "session/ds01_session.py",
        "/opt/ds01/hub/etc/jupyter/jupyter_server_config.d/ds01_session.json": "session/enabled.json",
        f"{_LAB_EXTENSION}/package.json": "session/package.json",
        f"{_LAB_EXTENSION}/static/remoteEntry.js": "session/remoteEntry.js",
    }
)


def template_directory() -> Path:
    """Return the directory of the templates, that of the wheel first.

    Raises:
        ConfigBroken: neither exists.
    """
    package = Path(__file__).resolve().parent
    places = (package / "templates", package.parent / "templates")
    for place in places:
        if place.is_dir():
            return place
    raise ConfigBroken(
        "The form's templates are missing: tell your admin to install the ds01-spawner package again.",
        detail=f"no directory at {' or '.join(str(place) for place in places)}",
    )


def template_paths() -> list[str]:
    """Return the folders for `c.JupyterHub.template_paths`: pages of the Hub, and what they include.

    Raises:
        ConfigBroken: there are no templates.
    """
    return [str(template_directory() / "hub"), str(template_directory())]


@cache
def read_programs() -> Mapping[str, str]:
    """Return what each container gets to run, by its path there: what starts its server, and shows her time.

    Raises:
        ConfigBroken: there are no templates.
    """
    folder = template_directory()
    return {path: (folder / name).read_text(encoding="utf-8") for path, name in _PROGRAMS.items()}


@cache
def read_dockerfile(name: str) -> str:
    """Return the template of a Dockerfile, with what all of them share in front of it.

    Raises:
        ConfigBroken: there are no templates.
    """
    texts = ((template_directory() / part).read_text(encoding="utf-8") for part in ("macros.j2", name))
    return "".join(texts)


@cache
def environment() -> Environment:
    """Return the environment: HTML is escaped, a name that is not given is an error.

    Raises:
        ConfigBroken: there are no templates.
    """
    return Environment(
        loader=FileSystemLoader(template_directory()),
        autoescape=select_autoescape(("html",), default=False),
        undefined=StrictUndefined,
        # A package that is upgraded under a running Hub must not show its new form with the old code.
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
