"""Which victim is killed at which step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .steps import ABSENT, STEPS, Step
from .victims import MANAGED, VICTIMS

# Each waits for JupyterHub, up to half a minute, for what is JupyterHub's.
MANAGED_STEPS = ("creating", "serving", "removing")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kill: of `victim`, at `step`."""

    victim: str
    step: Step

    @property
    def is_harmless(self) -> bool:
        """Whether her server is to run on as if nothing had happened."""
        return self.victim in ("hub", "service", MANAGED) and self.step.slug == "serving"

    @property
    def name(self) -> str:
        return f"{self.victim}-{self.step.slug}"


def make_cells() -> Iterator[Cell]:
    for victim in VICTIMS:
        for step in STEPS:
            # Before its creation, and after its removal, there is no container to kill.
            is_absent = victim == "container" and step.container == ABSENT
            if not is_absent and (victim != MANAGED or step.slug in MANAGED_STEPS):
                yield Cell(victim=victim, step=step)


CELLS = tuple(make_cells())
