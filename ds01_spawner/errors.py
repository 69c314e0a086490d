"""What can go wrong, as one tree, each error a sentence for the person who reads it.

DS01Error                     base; `str(error)` is for the student, `detail` for the log
├── RequestRefused            400: what she asked for is not possible as written
│   ├── NotAllowed            her profile or group does not allow it
│   ├── LimitExceeded         her limits do not allow it on top of what she holds
│   ├── MountRefused          a directory she may not have in her container
│   └── PackageRefused        a package that cannot be had, found before the build
├── NothingFree               503: no suitable slot is free now
│   ├── QueueFull             503: and as many wait as may wait
│   └── WaitedTooLong         503: and none came free in the time that one may wait
├── NoContainer               404: she has no container of that name
├── NameTaken                 409: a container of that name exists that we did not make
├── AccountRefused            403: the user has no usable account on this machine
├── ServerEnded               400: Jupyter ended before it answered
├── WrongDevices              503: the server saw other GPUs than were leased for it
├── ImageFailed               503: the image could not be resolved or built
│   ├── UnknownFramework      400: the catalog has nothing under that name
│   ├── RegistryUnavailable   503: the registry of base images does not answer
│   └── BuildFailed           400: a step of the build failed
└── SiteBroken                503: something the admin has to mend
    ├── CatalogBroken         the catalog cannot be read
    ├── LimitsBroken          the limits file cannot be read
    ├── ConfigBroken          a setting is wrong or contradicts another
    ├── EngineUnavailable     Docker does not answer, or refused a call
    ├── HubUnavailable        the Hub does not answer, or refused a call
    ├── ServiceUnavailable    the service does not answer at its socket
    │   └── ConnectionLost    it went away while a shell was open
    ├── InventoryUnavailable  NVML (or the box file) cannot be read
    └── LedgerUnavailable     the ledger cannot be read or written
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class DS01Error(Exception):
    """Base of all errors of this package.

    `str(error)` is one sentence (or two) that says what happened and what to do next, written for
    the student. `detail` is the cause for the admin's log. `reason` is a short slug for metrics,
    `status_code` the HTTP status that fits, `field` the option to change, "" for none alone.
    """

    reason = "error"
    status_code = 500

    def __init__(self, message: str, *, detail: str = "", field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.field = field


@contextmanager
def about(field: str) -> Iterator[None]:
    """Let an error in the body name the option that it is about, unless it names one already."""
    try:
        yield
    except DS01Error as exc:
        exc.field = exc.field or field
        raise


class RequestRefused(DS01Error):
    """What was asked for is not possible as written."""

    reason = "refused"
    status_code = 400


class NotAllowed(RequestRefused):
    """The profile or the group does not allow it."""

    reason = "not-allowed"


class LimitExceeded(RequestRefused):
    """The user's limits do not allow it on top of what she holds."""

    reason = "limit"


class PackageRefused(RequestRefused):
    """A package that does not exist, or conflicts with another one or with what the base image has."""

    reason = "package"


class NothingFree(DS01Error):
    """No suitable slot is free now; `can_wait` says whether one can become free at all."""

    reason = "nothing-free"
    status_code = 503

    def __init__(self, message: str, *, detail: str = "", can_wait: bool = True) -> None:
        super().__init__(message, detail=detail)
        self.can_wait = can_wait


class QueueFull(NothingFree):
    """No suitable slot is free, and as many spawns wait as may wait."""

    reason = "queue-full"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message, detail=detail, can_wait=False)


class WaitedTooLong(NothingFree):
    """The time for which a spawn may wait is over."""

    reason = "queue-timeout"

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message, detail=detail, can_wait=False)


class NoContainer(DS01Error):
    """There is no container of hers of that name."""

    reason = "no-container"
    status_code = 404


class NameTaken(DS01Error):
    """A container of that name exists that this Hub did not make."""

    reason = "name-taken"
    status_code = 409


class AccountRefused(DS01Error):
    """The user has no account on this machine that a server may run as."""

    reason = "account"
    status_code = 403


class MountRefused(RequestRefused):
    """A directory that she may not have in her container."""

    reason = "mount"


class ServerEnded(DS01Error):
    """The container ran, and Jupyter in it ended before it answered; `detail` is the end of its log."""

    reason = "server-ended"
    status_code = 400


class WrongDevices(DS01Error):
    """The container ran and saw other GPUs than were leased for it, so it was stopped."""

    reason = "self-test"
    status_code = 503


class ImageFailed(DS01Error):
    """The image could not be resolved or built."""

    reason = "image"
    status_code = 503


class UnknownFramework(ImageFailed):
    """The catalog has nothing under that name for this architecture."""

    reason = "unknown-framework"
    status_code = 400


class RegistryUnavailable(ImageFailed):
    """The registry of base images does not answer, or not as Docker wants it."""

    reason = "registry"


class BuildFailed(ImageFailed):
    """A step of the build failed; `lines` are the few of its log that matter, `log` is the whole."""

    reason = "build"
    status_code = 400

    def __init__(self, message: str, *, detail: str = "", lines: tuple[str, ...] = (), log: str = "") -> None:
        super().__init__(message, detail=detail)
        self.lines = lines
        self.log = log


class SiteBroken(DS01Error):
    """Something that the admin has to mend."""

    reason = "site"
    status_code = 503


class CatalogBroken(SiteBroken):
    """The catalog of base images cannot be read."""

    reason = "catalog"


class LimitsBroken(SiteBroken):
    """The limits file cannot be read."""

    reason = "limits-file"


class ConfigBroken(SiteBroken):
    """A setting is wrong, or contradicts another."""

    reason = "config"


class EngineUnavailable(SiteBroken):
    """Docker does not answer, or refused a call."""

    reason = "engine"


class HubUnavailable(SiteBroken):
    """The Hub does not answer, or refused a call."""

    reason = "hub"


class ServiceUnavailable(SiteBroken):
    """The service does not answer at its socket, or in words that nobody understands."""

    reason = "service"


class ConnectionLost(ServiceUnavailable):
    """The service went away while a shell was open."""

    reason = "connection"


class InventoryUnavailable(SiteBroken):
    """The GPUs of this machine cannot be read."""

    reason = "inventory"


class LedgerUnavailable(SiteBroken):
    """The ledger cannot be read or written."""

    reason = "ledger"
