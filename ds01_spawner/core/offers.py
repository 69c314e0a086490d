"""What a person may have: her account, her limits, the catalog, what is free, her directories."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

from .. import allocator, catalog, limits
from ..allocator import PoolView
from ..errors import (
    DS01Error,
    InventoryUnavailable,
    LimitExceeded,
    NotAllowed,
    NothingFree,
    RequestRefused,
    about,
)
from ..inventory import find_architecture
from ..model import (
    FULL_GPU,
    NO_RESOURCES,
    Account,
    Availability,
    BaseImage,
    Holdings,
    Inventory,
    Lease,
    LeaseState,
    Limits,
    LimitsTexts,
    MarkKind,
    Mount,
    MountWish,
    ServerRequest,
)

if TYPE_CHECKING:
    from ..adapters.ledger import Ledger

log = logging.getLogger(__name__)

STOPPED = "stopped"
"""The history's word for a container of hers that was stopped without her doing."""
_OF_LATE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """All that the options form shows of one moment for one person.

    `gpu_problem` is "" or the sentence that says why no GPU can be had at all; `notices` are sentences
    about what happened to her servers without her doing. `view` is what it rests on, None where the GPUs
    could not be offered.
    """

    availability: tuple[Availability, ...]
    frameworks: tuple[tuple[str, tuple[str, ...]], ...]
    architecture: str
    limits: Limits
    holdings: Holdings
    simulated: bool
    gpu_problem: str
    notices: tuple[str, ...]
    view: PoolView | None = None


class Offers:
    """Reads the admin's files, the accounts, and what the service recorded of the GPUs; changes nothing.

    `account(login)` finds the account a user's servers run as, and `open_mounts(account, wishes)` opens
    her directories with her credentials; each raises as its adapter says. `inventory_max_age` is how old
    the service's last reading of the GPUs may be.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        read_catalog: Callable[[], str | None],
        read_limits: Callable[[], LimitsTexts | None],
        find_account: Callable[[str], Account],
        open_mounts: Callable[[Account, Sequence[MountWish]], tuple[Mount, ...]],
        architecture: str = "",
        strategy: str = "",
        inventory_max_age: timedelta = timedelta(minutes=5),
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._ledger = ledger
        self._read_catalog = read_catalog
        self._read_limits = read_limits
        self.account = find_account
        self.open_mounts = open_mounts
        self._architecture = architecture
        self._strategy = strategy
        self._strategy_warning = ""
        self._known_limits: tuple[LimitsTexts, limits.LimitsFile] | None = None
        self._inventory_max_age = inventory_max_age
        self._now = clock
        self._environ = environ

    def inventory(self) -> Inventory:
        """Return the GPUs as the service read them last.

        Raises:
            InventoryUnavailable: they could not be read, or nobody has read them for too long.
        """
        now = self._now()
        age = self._ledger.inventory_age(now)
        if age is not None and abs(age) > self._inventory_max_age:
            raise InventoryUnavailable(
                f"Nobody has looked at the GPUs since {(now - age).astimezone():%H:%M}, so none is handed "
                "out. Start a server without a GPU, and tell your admin.",
                detail="the service ds01 does not run, or cannot write the ledger",
            )
        found = self._ledger.inventory()
        if found is None:
            raise InventoryUnavailable(
                "The GPUs of this machine were not looked at yet. Start a server without a GPU, or try again "
                "in a minute; if it stays so, tell your admin.",
                detail="no service has written an inventory into the ledger: is the service ds01 running?",
            )
        return found[0]

    def limits_file(self) -> limits.LimitsFile | None:
        """Return the limits as they are written now, None where there is no file."""
        texts = self._read_limits()
        if texts is None:
            return None
        known = self._known_limits
        if known is None or known[0] != texts:
            # To read the same text again takes as long as many a start has for all its decisions.
            known = self._known_limits = (texts, limits.load_texts(texts))
        return known[1]

    def limits_for(self, user: str, hub_groups: Iterable[str] = ()) -> Limits:
        """Return what the user may have; where there is no limits file, one slot in one container."""
        file = self.limits_file()
        if file is None:
            return Limits(group="default", slots=1, slots_per_container=1, containers=1)
        return limits.bound(limits.limits_for(file, user, hub_groups))

    def strategy(self) -> str:
        """Return `pack` or `least_allocated`: the trait's word, else the limits file's, else `pack`."""
        named = self._strategy
        if not named:
            file = self.limits_file()
            named = (file.strategy if file else None) or "pack"
        strategy, warning = allocator.normalise_strategy(named)
        if warning and warning != self._strategy_warning:
            log.warning(warning)
        self._strategy_warning = warning
        return strategy

    def _find_architecture(self, read: Callable[[], Inventory]) -> str:
        """Return the catalog's architecture: the trait, else `$MLC_ARCH`, else from the GPUs, else ""."""
        try:
            return find_architecture(self._architecture, self._environ, read)
        except InventoryUnavailable as exc:
            log.warning("the architecture is unknown without GPUs: %s", exc.detail or exc)
            return ""

    def offer(self, user: str, hub_groups: Iterable[str] = ()) -> Offer:
        """Return what there is for the user now; broken GPUs cost their own section, not the form."""
        read = cache(self.inventory)
        allowed = self.limits_for(user, hub_groups)
        gpu_problem, simulated, view = "", False, None
        availability: tuple[Availability, ...] = ()
        try:
            inventory = read()
            simulated = inventory.simulated
            now = self._now()
            runs_until = None if allowed.max_runtime is None else now + allowed.max_runtime
            view = self._ledger.view(user)
            barred = allocator.barred_for(view, user, now, runs_until)
            availability = allocator.availability(inventory.slots, barred)
        except DS01Error as exc:
            log.error("no GPU can be offered: %s", exc.detail or exc)
            gpu_problem = str(exc)
        architecture = self._find_architecture(read)
        text = self._read_catalog()
        return Offer(
            availability=availability,
            frameworks=catalog.frameworks(catalog.parse_catalog(text), architecture)
            if text is not None
            else (),
            architecture=architecture,
            limits=allowed,
            holdings=self._ledger.holdings(user),
            simulated=simulated,
            gpu_problem=gpu_problem,
            notices=self._find_notices(user),
            view=view,
        )

    def _find_notices(self, user: str) -> tuple[str, ...]:
        """Return what she should know: who else uses her slots, and what was stopped of late."""
        hers = {slot for lease in self._ledger.live_leases(user) for slot in lease.slots}
        marks = self._ledger.marks()
        contested = (
            f"Your GPU slice is not yours alone: it is {mark.why}. Expect errors, and tell your admin."
            for mark in marks
            if mark.kind is MarkKind.CONTESTED and mark.slot in hers
        )
        of_late = self._ledger.history(user=user, since=self._now() - _OF_LATE, kind=STOPPED)
        return (*contested, *(f"{event.at.astimezone():%H:%M}: {event.why}" for event in of_late))

    def base_of(self, request: ServerRequest) -> BaseImage:
        """Return the image that a request builds on, as a start would find it now.

        Raises:
            InventoryUnavailable: it may depend on the GPUs, and nobody has read them.
            CatalogBroken, UnknownFramework: as for a start.
        """
        return self._base_image(request, find_architecture(self._architecture, self._environ, self.inventory))

    def _base_image(self, request: ServerRequest, architecture: str) -> BaseImage:
        """Return the image that the request builds on: her own, or the catalog's."""
        if not request.base_image:
            version = request.framework_version
            return catalog.find_base(self._read_catalog(), request.framework, version, architecture)
        tag = request.base_image.rpartition(":")[2]
        version = "latest" if tag == request.base_image or "/" in tag else tag
        return BaseImage(
            framework="custom", version=version, architecture=architecture, image=request.base_image
        )

    def check(self, user: str, server: str, request: ServerRequest, effective: Limits) -> BaseImage:
        """Return the base image, or refuse at once what cannot come true: the framework, the limits,
        GPUs that do not exist.

        What `server` itself still holds does not count: it is taken over or ended at its start. The
        reservation checks the limits again, in its own transaction.
        """
        read = cache(self.inventory)
        with about("base_image" if request.base_image else "framework"):
            base = self._base_image(request, self._find_architecture(read))
        if request.gpu_count and base.architecture and catalog.is_rocm(base.architecture):
            raise NotAllowed(
                f"{base.framework} {base.version} is a ROCm image and cannot use this server's NVIDIA GPUs. "
                "Choose another framework version, or no GPU.",
                field="framework",
            )
        others = [lease for lease in self._ledger.live_leases(user) if lease.server != server]
        try:
            limits.check(
                effective,
                sum_up(others),
                slots=request.gpu_count,
                gpu_share=_share_of(request, read),
                full_gpu=request.gpu_profile == FULL_GPU,
                takes=effective.per_container,
            )
        except LimitExceeded as exc:
            raise LimitExceeded(f"{exc}{_name_held(others)}") from exc
        return base


def _share_of(request: ServerRequest, read: Callable[[], Inventory]) -> Fraction:
    """Return the GPU share that the request amounts to, were everything free."""
    if not request.gpu_count:
        return Fraction(0)
    try:
        slots = allocator.choose(
            read().slots,
            (),
            profile=request.gpu_profile,
            count=request.gpu_count,
            allow_full_gpu=True,
            strategy=allocator.PACK,
        )
    except NothingFree as exc:
        raise RequestRefused(str(exc)) from exc
    return sum((slot.share for slot in slots), start=Fraction(0))


def sum_up(leases: Sequence[Lease]) -> Holdings:
    """Return what live leases hold together."""
    return Holdings(
        containers=len(leases),
        slots=sum(len(lease.slots) for lease in leases),
        gpu_share=sum((lease.share for lease in leases), start=Fraction(0)),
        takes=sum((lease.takes for lease in leases), start=NO_RESOURCES),
    )


def _name_held(leases: Sequence[Lease]) -> str:
    """Say which of her stopped servers still hold something: nothing else shows them to her."""
    # What an admin gave her without a server is not hers to stop.
    held = [lease for lease in leases if lease.state is LeaseState.HELD and lease.container_id]
    if not held:
        return ""
    named = " and ".join(
        lease.container_name.partition("._.")[0]
        + (f" (until {lease.deadline.astimezone():%H:%M})" if lease.deadline else "")
        for lease in held
    )
    return f" Stopped, but still held for you: {named}; start it and stop it here to free it now."
