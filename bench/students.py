"""Who comes to a simulated lab when, for how long, and what she leaves behind; plain numbers, one seed.

Nothing here is measured: it is a guess at a small lab, written down so that anybody can change it.
`docs/lifecycle.md` tells it in words.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOUR = 60
DAY = 24 * HOUR
WEEKDAYS = 5
SLICES = 7  # of each GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What the people of one group do; hours are medians of wide distributions.

    `sittings` and `weekend_sittings` are how often she sits down on an average day, `trains` is how often
    that is for starting a training.
    """

    people: int
    sittings: float
    weekend_sittings: float
    trains: float
    training_hours: float
    sitting_hours: float = 1.5


GROUPS = {
    "student": Habits(people=22, sittings=1.3, weekend_sittings=0.6, trains=0.5, training_hours=5),
    "researcher": Habits(people=8, sittings=2.5, weekend_sittings=1, trains=0.7, training_hours=14),
}
BEGINS = (9, 10, 10, 11, 11, 12, 13, 14, 14, 15, 15, 16, 17, 18, 19, 20)
"""The hours in which a sitting begins, each as likely as the other."""
BUSY_DAYS, BUSY_FACTOR = (2, 3), 2
"""On Wednesday and Thursday students come more often: something is due."""
STOPS = 0.35
"""How often she stops the server when she leaves."""
KEEPS_KERNEL = 0.5
"""How often a server that she left has a kernel that still holds memory of the GPU."""
READS = 2 / 3
"""How often she reads a warning that comes by day, and asks for the time that her training needs."""
SETTING_UP = 30
"""Minutes at the browser before a training runs by itself."""
LONGEST_TRAINING_HOURS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """One time that somebody sits down, `at` so many minutes after Monday, 0:00.

    She stays for `stays` minutes. `trains` are the minutes that a training then runs by itself, 0 for none.
    `stops` is whether she stops the server when she leaves or the training is over, `keeps_kernel` whether
    otherwise a process stays on the GPU that does nothing, `reads` whether she reads warnings.
    """

    user: str
    group: str
    at: int
    stays: int
    trains: int
    stops: bool
    keeps_kernel: bool
    reads: bool


def write_diary(days: int, seed: int) -> tuple[Sitting, ...]:
    """Return what everybody means to do, in order of time; the same for the same seed."""
    dice = random.Random(seed)  # noqa: S311  nothing secret
    people = [
        (f"{group}-{number:02}", group) for group, habits in GROUPS.items() for number in range(habits.people)
    ]
    found = [sitting for user, group in people for sitting in _plan(user, group, days, dice)]
    return tuple(sorted(found, key=lambda one: (one.at, one.user)))


def _plan(user: str, group: str, days: int, dice: random.Random) -> Iterator[Sitting]:
    free_from = 0
    for day in range(days):
        for at in sorted(_list_begins(group, day, dice)):
            sitting = _imagine(user, group, at, dice)
            if at >= free_from:
                yield sitting
                free_from = at + sitting.stays


def _list_begins(group: str, day: int, dice: random.Random) -> list[int]:
    habits, weekday = GROUPS[group], day % 7
    mean = habits.sittings if weekday < WEEKDAYS else habits.weekend_sittings
    if group == "student" and weekday in BUSY_DAYS:
        mean *= BUSY_FACTOR
    return [
        day * DAY + dice.choice(BEGINS) * HOUR + dice.randrange(HOUR) for _ in range(_poisson(mean, dice))
    ]


def _imagine(user: str, group: str, at: int, dice: random.Random) -> Sitting:
    habits = GROUPS[group]
    stays = _spread(habits.sitting_hours, 0.7, 8, dice)
    training = _spread(habits.training_hours, 0.9, LONGEST_TRAINING_HOURS, dice)
    is_training = dice.random() < habits.trains
    return Sitting(
        user=user,
        group=group,
        at=at,
        stays=SETTING_UP if is_training else stays,
        trains=training if is_training else 0,
        stops=dice.random() < STOPS,
        keeps_kernel=dice.random() < KEEPS_KERNEL,
        reads=dice.random() < READS,
    )


def _spread(median_hours: float, sigma: float, most_hours: float, dice: random.Random) -> int:
    """Return minutes from a lognormal distribution, a quarter of an hour at least."""
    hours = dice.lognormvariate(math.log(median_hours), sigma)
    return round(max(0.25, min(hours, most_hours)) * HOUR)


def _poisson(mean: float, dice: random.Random) -> int:
    threshold, number, product = math.exp(-mean), 0, dice.random()
    while product > threshold:
        number += 1
        product *= dice.random()
    return number
