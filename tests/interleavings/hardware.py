"""The GPUs of a machine that is repartitioned, breaks and is mended; what NVML would say of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ds01_spawner.errors import InventoryUnavailable
from ds01_spawner.model import ALL_DEVICES, FULL_GPU, Gpu, Inventory, Slot, UnreadableGpu

SMALL, MIDDLE = "1g.10gb", "2g.20gb"
LAYOUTS = {
    "whole": (FULL_GPU,),
    "small": (SMALL, SMALL, SMALL),
    "mixed": (MIDDLE, SMALL),
}
_SHARES = {FULL_GPU: Fraction(1), MIDDLE: Fraction(2, 7), SMALL: Fraction(1, 7)}


@dataclass(slots=True, kw_only=True)
class _Card:
    uuid: str
    index: int
    slots: tuple[Slot, ...] = ()
    fault: str = ""
    is_lost: bool = False


@dataclass(slots=True)
class Hardware:
    """Two GPUs; a MIG instance has a UUID that no other ever had."""

    is_readable: bool = True
    cards: list[_Card] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for index, layout in enumerate(("small", "whole")):
            self.cards.append(_Card(uuid=f"GPU-{index}", index=index))
            self.repartition(index, layout)

    def repartition(self, card: int, layout: str) -> None:
        """Cut a GPU anew, as `nvidia-smi mig` does; whatever runs on it does not hinder that."""
        cut = self.cards[card]
        profiles = LAYOUTS[layout]
        cut.slots = tuple(self._make(cut, place, profile) for place, profile in enumerate(profiles))

    def _make(self, card: _Card, place: int, profile: str) -> Slot:
        is_full = profile == FULL_GPU
        return Slot(
            uuid=card.uuid if is_full else f"MIG-{next(self._numbers)}",
            index=str(card.index) if is_full else f"{card.index}:{place}",
            profile=profile,
            gpu_uuid=card.uuid,
            gpu_name="A100",
            memory_mib=9728,
            share=_SHARES[profile],
        )

    def read(self) -> Inventory:
        """Return what NVML says now.

        Raises:
            InventoryUnavailable: nothing.
        """
        if not self.is_readable:
            raise InventoryUnavailable("The GPUs cannot be read.")
        readable = [card for card in self.cards if not card.is_lost]
        return Inventory(
            slots=tuple(replace(slot, fault=card.fault) for card in readable for slot in card.slots),
            gpus=tuple(
                Gpu(uuid=card.uuid, index=card.index, name="A100", compute_capability=(8, 0))
                for card in readable
            ),
            unreadable=tuple(
                UnreadableGpu(index=card.index, why="it is lost", uuid=card.uuid)
                for card in self.cards
                if card.is_lost
            ),
        )

    def find_missing(self, devices: Iterable[str]) -> list[str]:
        """Return those of the device ids that mean nothing on this machine."""
        known = {ALL_DEVICES}
        for card in self.cards:
            known |= {card.uuid, str(card.index)}
            known |= {name for slot in card.slots for name in (slot.uuid, slot.index)}
        return [device for device in devices if device not in known]

    def mend(self) -> None:
        """Make every GPU readable and healthy."""
        self.is_readable = True
        for card in self.cards:
            card.fault, card.is_lost = "", False
