"""What came of a simulated lab, counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.students import HOUR, SLICES
from ds01_spawner.model import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a server: when who asked, how many minutes she waited, and whether she was served."""

    user: str
    group: str
    at: int
    waited: int
    is_served: bool


@dataclass(slots=True)
class Outcome:
    """What came of it. `used` and `leased` are slots, `waiting` people, each at each minute.

    `found_running` are the minutes at which somebody went on with a server of hers. `extended`, `trained`
    and `cut` are those at which run time was extended, a training began, and one was ended before its time.
    """

    starts: list[Start] = field(default_factory=list)
    found_running: list[int] = field(default_factory=list)
    used: list[int] = field(default_factory=list)
    leased: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    extended: list[int] = field(default_factory=list)
    trained: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    decisions: list[tuple[int, str, Decision]] = field(default_factory=list)
    stopped_at_work: int = 0

    def since(self, minute: int) -> Outcome:
        """Return what came of it from a minute on."""
        return Outcome(
            starts=[one for one in self.starts if one.at >= minute],
            found_running=[at for at in self.found_running if at >= minute],
            used=self.used[minute:],
            leased=self.leased[minute:],
            waiting=self.waiting[minute:],
            extended=[at for at in self.extended if at >= minute],
            trained=[at for at in self.trained if at >= minute],
            cut=[at for at in self.cut if at >= minute],
            decisions=[one for one in self.decisions if one[0] >= minute],
            stopped_at_work=self.stopped_at_work,
        )

    def idle_gpu_hours(self) -> float:
        return (sum(self.leased) - sum(self.used)) / HOUR / SLICES

    def used_gpu_hours(self) -> float:
        return sum(self.used) / HOUR / SLICES

    def never_served(self) -> list[str]:
        """Return who asked for a server, and got none in all that time."""
        served = {start.user for start in self.starts if start.is_served}
        return sorted({start.user for start in self.starts} - served)
