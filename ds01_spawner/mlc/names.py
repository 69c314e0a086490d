"""The names and labels of AIME's containers and images, and ours in the same namespace."""

from __future__ import annotations

import hashlib
import re

from ..errors import NameTaken, RequestRefused
from ..model import DEFAULT_SERVER

LABEL = "aime.mlc"
LEASE_LABEL = f"{LABEL}.DS01_LEASE"
MANAGED_LABEL = f"{LABEL}.DS01_MANAGED"
BASE_IMAGE_LABEL = f"{LABEL}.BASE_IMAGE"
CUSTOM_IMAGE_LABEL = f"{LABEL}.CUSTOM_IMAGE"
MAINTAINER_LABEL = f"{LABEL}.MAINTAINER"
MAINTAINER_ID_LABEL = f"{LABEL}.MAINTAINER_ID"
LOOK_LABEL = f"{LABEL}.DS01_LOOK"
LOOK_NAME = "ds01-look-"
"""What the names of containers begin with that are made to look into an image."""
MLC_VERSION = "4"

WORKSPACE, DATA, MODELS = "/workspace", "/data", "/models"
HOST_NETWORK = "host"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}", re.ASCII)
_SLUG = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


def project_name(server: str) -> str:
    """Return the NAME of the container of the Hub's server `server` ("" is the default server).

    A slug stands for itself; any other name (servers made before JupyterHub had slugs) becomes its
    readable part and a hash behind an underscore, which no slug has, so that two never meet.

    Raises:
        RequestRefused: the name is the one reserved for the default server.
    """
    if server == "":
        return DEFAULT_SERVER
    if server == DEFAULT_SERVER:
        raise RequestRefused(
            f"The name {DEFAULT_SERVER!r} is reserved for your default server. Give this one another name."
        )
    if _SLUG.fullmatch(server):
        return server
    readable = re.sub(r"[^a-z0-9]+", "-", server.lower())[:30].strip("-") or "server"
    return f"{readable}_{hashlib.sha256(server.encode()).hexdigest()[:8]}"


def is_name(name: str) -> bool:
    """Whether Docker can have a container NAME of AIME's tools called so."""
    return _NAME.fullmatch(name) is not None


def is_project_name(name: str) -> bool:
    """Whether a server's container is called as the server is, if it has this name."""
    return _SLUG.fullmatch(name) is not None and name != DEFAULT_SERVER


def container_name(server: str, uid: int) -> str:
    """Return `NAME._.UID`, the name under which AIME's tools look for the container."""
    return f"{project_name(server)}._.{uid}"


def refuse_name(container: str, *, detail: str) -> NameTaken:
    """Return the refusal of a container's name that somebody else's container has."""
    return NameTaken(
        f"A container named {container} exists already and was not made by this Hub. Rename or remove it "
        "(mlc remove), or give your server another name.",
        detail=detail,
    )


def image_name(container: str, user: str) -> str:
    """Return the own image tag of the container named `container`, `PROJECT-USER-image:UID`.

    `mlc remove` deletes the image its container was made from: it shall remove a tag, never the
    image that others share. The UID keeps `a-b`/`c` and `a`/`b-c` apart.
    """
    project, _, uid = container.rpartition("._.")
    return f"{own_image_name(project, user)}:{uid}"


def own_image_name(project: str, user: str) -> str:
    """Return `PROJECT-USER-image`, what DS01 calls the image that a person built herself."""
    safe_user = re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "user"
    return f"{project}-{safe_user}-image"


def image_labels(
    *, base: str, maintainer: str, maintainer_id: str, custom_image: str
) -> tuple[tuple[str, str], ...]:
    """Return the labels of an image that we build."""
    return (
        (BASE_IMAGE_LABEL, base),
        (MAINTAINER_LABEL, maintainer),
        (MAINTAINER_ID_LABEL, maintainer_id),
        (CUSTOM_IMAGE_LABEL, custom_image),
    )
