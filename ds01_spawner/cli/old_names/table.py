"""The table of old names: what each command of DS01 and AIME of old says in today's `ds01`.

Old arguments are translated, never interpreted: what they mean, and whether they may be, is said by the
command of today, as if it had been typed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import MappingProxyType

from ...errors import RequestRefused

_HELP = ("-h", "--help")
_STAYS = (
    "Leave the shell of a container with `exit`, or Ctrl-D. The container runs on; end it with: ds01 "
    "container stop NAME"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Arguments of today's `ds01`, none where there is nothing to run, and sentences to say before."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OldName:
    """An old command: `old` are its arguments, `today` the command that it stands for.

    `translate` raises RequestRefused, in a sentence, for what cannot be said any more.
    """

    old: str
    today: str
    translate: Callable[[Sequence[str]], Order]


def translate(name: str, arguments: Sequence[str]) -> Order:
    """Return what an old command with these arguments is today.

    Raises:
        RequestRefused: it cannot be; says today's command.
    """
    entry = OLD_NAMES[name]
    try:
        return entry.translate(arguments)
    except RequestRefused as exc:
        raise RequestRefused(f"{name}: {exc.message} Today it is: {entry.today}") from exc


def describe(name: str) -> str:
    """Return what an old command's `--help` says of it."""
    entry = OLD_NAMES[name]
    return f"{name} {entry.old}".rstrip() + f"\n  is an old name. Today it is: {entry.today}"


def asks_help(arguments: Sequence[str]) -> bool:
    """Say whether an old command is asked for its help; behind -- stands another program's."""
    own = takewhile(lambda argument: argument != "--", arguments)
    return any(argument in _HELP for argument in own)


def _pass_on(*command: str, needs: str = "") -> Callable[[Sequence[str]], Order]:
    """Return what puts a command in place of the old name; `needs` is what has to be named first."""

    def build(arguments: Sequence[str]) -> Order:
        if needs and (not arguments or arguments[0].startswith("-")):
            raise RequestRefused(f"Name a {needs} first.")
        return Order(arguments=(*command, *arguments))

    return build


def _create(arguments: Sequence[str]) -> Order:
    # Imported here, since `ds01` is to start at once.
    from .mlc_create import translate_create

    words, notes = translate_create(arguments)
    return Order(arguments=("container", "create", *words), notes=notes)


def _create_patched(arguments: Sequence[str]) -> Order:
    if not arguments or arguments[0] != "create":
        raise RequestRefused("Only its `create` has a name of today here; AIME's own `mlc` has the rest.")
    return _create(arguments[1:])


def _limit(arguments: Sequence[str]) -> Order:
    if not any(not argument.startswith("-") for argument in arguments):
        raise RequestRefused("Name a USER.")
    return Order(arguments=("limits", *arguments))


def _allocate(arguments: Sequence[str]) -> Order:
    verb = arguments[0] if arguments else ""
    if verb == "allocate":
        raise RequestRefused(
            "A GPU is leased when its container starts, not before: ds01 container create NAME --gpu PROFILE."
        )
    if verb not in ("status", "user-status", "release"):
        raise RequestRefused("Say status, user-status USER or release CONTAINER.")
    return Order(arguments=("gpu", *arguments))


_MLC_CREATE = OldName(
    old="NAME FRAMEWORK [VERSION] [-w DIR] [-d DIR] [-m DIR] [-s] [-arch ARCH] [-g GPUS] [--image=IMAGE] …",
    today="ds01 container create NAME [FRAMEWORK [VERSION]] [-w DIR] [-d DIR] [-m DIR] [--gpu PROFILE] …",
    translate=_create,
)
_LIMITS = OldName(
    old="USER [--docker-args]",
    today="ds01 limits USER [--docker-args]",
    translate=_limit,
)
_ALLOCATOR = OldName(
    old="status | user-status USER | release CONTAINER | allocate USER CONTAINER COUNT PRIORITY",
    today="ds01 gpu status | user-status USER | release CONTAINER | allocate USER PROFILE --until TIME",
    translate=_allocate,
)


def _image(verb: str, old: str, *, needs: str = "") -> OldName:
    return OldName(
        old=old, today=f"ds01 image {verb} {old}".strip(), translate=_pass_on("image", verb, needs=needs)
    )


def _container(verb: str, old: str, *, needs: str = "") -> OldName:
    return OldName(
        old=old,
        today=f"ds01 container {verb} {old}".strip(),
        translate=_pass_on("container", verb, needs=needs),
    )


OLD_NAMES: Mapping[str, OldName] = MappingProxyType(
    {
        "image-create": _image("create", "[NAME] [-f FRAMEWORK] [-t USECASE] [-p PKGS] [--guided]"),
        "image-list": _image("list", ""),
        "image-update": _image("update", "NAME", needs="NAME"),
        "image-delete": _image("delete", "NAME", needs="NAME"),
        "container-create": _container("create", "[NAME] [FRAMEWORK] [--guided]"),
        "container-list": _container("list", "[--all]"),
        "container-run": _container("run", "NAME", needs="NAME"),
        "container-stats": _container("stats", "[NAME]"),
        "container-stop": _container("stop", "NAME", needs="NAME"),
        "container-exit": OldName(
            old="",
            today="exit, in the container's shell",
            translate=lambda _: Order(arguments=(), notes=(_STAYS,)),
        ),
        "container-cleanup": _container("cleanup", "[--yes]"),
        "user-setup": OldName(
            old="[--guided]", today="ds01 user setup [--guided]", translate=_pass_on("user", "setup")
        ),
        "project-init": OldName(
            old="[NAME] [--guided]",
            today="ds01 project init [NAME] [--guided]",
            translate=_pass_on("project", "init"),
        ),
        "mlc-create": _MLC_CREATE,
        "mlc-create-patched": _MLC_CREATE,
        "mlc-create-wrapper": _MLC_CREATE,
        "mlc-create-wrapper.sh": _MLC_CREATE,
        "mlc-patched.py": OldName(
            old=f"create {_MLC_CREATE.old}", today=_MLC_CREATE.today, translate=_create_patched
        ),
        "get-resource-limits": _LIMITS,
        "get_resource_limits.py": _LIMITS,
        "gpu-allocator": _ALLOCATOR,
        "gpu_allocator.py": _ALLOCATOR,
    }
)
"""Every old command by its name, in the order of `ds01 old-names list`."""
