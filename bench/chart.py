"""A drawing of slots over a week, as SVG: used, leased and not used, and who waits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT = 960, 64, 16
_TOP, _PANEL, _BETWEEN, _BOTTOM = 56, 150, 56, 28
_USED, _IDLE, _WAITING, _INK, _FAINT = "#1b6f8a", "#f0b95b", "#b3261e", "#222222", "#cccccc"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FONT = 'font-family="sans-serif" font-size="13"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One row of the drawing: three counts for each point in time."""

    title: str
    used: Sequence[float]
    leased: Sequence[float]
    waiting: Sequence[float]


def draw(panels: Sequence[Panel], most: int) -> str:
    """Return the panels below each other, with slots from 0 to `most`, as the text of an SVG file."""
    height = _TOP + len(panels) * (_PANEL + _BETWEEN) + _BOTTOM - _BETWEEN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT} fill="{_INK}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        *_draw_legend(),
    ]
    for number, panel in enumerate(panels):
        parts += _draw_panel(panel, _TOP + number * (_PANEL + _BETWEEN), most)
    return "\n".join((*parts, "</svg>", ""))


def _draw_legend() -> list[str]:
    entries = ((_USED, "in use"), (_IDLE, "leased or held, and idle"), (_WAITING, "people who wait"))
    parts, x = [], _LEFT
    for colour, words in entries:
        parts.append(f'<rect x="{x}" y="10" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="22">{words}</text>')
        x += 200
    return parts


def _draw_panel(panel: Panel, top: int, most: int) -> list[str]:
    bottom = top + _PANEL
    parts = [f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{escape(panel.title)}</text>']
    for value in range(0, most + 1, 7):
        y = bottom - value * _PANEL / most
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="{_FAINT}"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    parts.append(_draw_area(panel.leased, _IDLE, bottom, most))
    parts.append(_draw_area(panel.used, _USED, bottom, most))
    parts.append(_draw_line(panel.waiting, bottom, most))
    width = (_WIDTH - _LEFT - _RIGHT) / len(_DAYS)
    for number, day in enumerate(_DAYS):
        x = _LEFT + number * width
        parts.append(f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 6}" stroke="{_INK}"/>')
        parts.append(f'<text x="{x + width / 2:.1f}" y="{bottom + 18}" text-anchor="middle">{day}</text>')
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - _RIGHT}" y2="{bottom}" stroke="{_INK}"/>')
    return parts


def _draw_area(values: Sequence[float], colour: str, bottom: int, most: int) -> str:
    path = " ".join(_place(values, bottom, most))
    return f'<path d="M{_LEFT},{bottom} L{path} L{_WIDTH - _RIGHT},{bottom} Z" fill="{colour}"/>'


def _draw_line(values: Sequence[float], bottom: int, most: int) -> str:
    path = " ".join(_place(values, bottom, most))
    return f'<polyline points="{path}" fill="none" stroke="{_WAITING}" stroke-width="1.5"/>'


def _place(values: Sequence[float], bottom: int, most: int) -> list[str]:
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(values) - 1)
    return [f"{_LEFT + n * step:.1f},{bottom - value * _PANEL / most:.1f}" for n, value in enumerate(values)]
