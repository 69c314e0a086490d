"""The options form: `render` shows it, `parse` reads what came back, `from_query` reads a link.

Neither reader checks more than shape: what they return goes the way of a REST body. A link only
fills the form. Every value that is shown is escaped, stored options included.
"""

from __future__ import annotations

from .phrases import describe_holdings, describe_prospect, write_slots
from .reading import from_query, parse
from .view import FormView, is_barred, render, render_problem, wish_of

__all__ = [
    "FormView",
    "describe_holdings",
    "describe_prospect",
    "from_query",
    "is_barred",
    "parse",
    "render",
    "render_problem",
    "wish_of",
    "write_slots",
]
