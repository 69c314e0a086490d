"""The options form: `render` shows it, `parse` reads what came back, `from_query` reads a link.

Neither reader checks more than shape: what they return goes the way of a REST body. A link only
fills the form. Every value that is shown is escaped, stored options included.
"""

from __future__ import annotations

from .reading import from_query, parse
from .view import FormView, render, render_problem

__all__ = ["FormView", "from_query", "parse", "render", "render_problem"]
