"""When a server is warned, stopped, or may run longer; pure: what was seen goes in, what to do comes out.

It guarantees that a server is stopped for idleness only if each check of a whole idle timeout saw it quiet,
so never while its GPU works, nor because somebody could not be asked; that nobody is stopped who was not
warned `Policy.warning_lead` before; and that time which nobody watched (the service was dead, the machine
slept, the clock was set) never counts as idle. All that has to be remembered is in `Watch`.
"""

from .activity import judge
from .demand import is_high, measure_demand
from .extension import extend
from .review import review
from .wording import describe, may_extend, show_span, show_time

__all__ = [
    "describe",
    "extend",
    "is_high",
    "judge",
    "may_extend",
    "measure_demand",
    "review",
    "show_span",
    "show_time",
]
