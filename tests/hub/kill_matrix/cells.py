"""Which victim is killed at which step."""

from __future__ import annotations

from dataclasses import dataclass

from .steps import ABSENT, STEPS, Step
from .victims import VICTIMS


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One kill: of `victim`, at `step`."""

    victim: str
    step: Step

    @property
    def is_harmless(self) -> bool:
        """Whether her server is to run on as if nothing had happened."""
        return self.victim in ("hub", "service") and self.step.slug == "serving"

    @property
    def name(self) -> str:
        return f"{self.victim}-{self.step.slug}"


# Before its creation, and after its removal, there is no container to kill.
CELLS = tuple(
    Cell(victim=victim, step=step)
    for victim in VICTIMS
    for step in STEPS
    if victim != "container" or step.container != ABSENT
)
