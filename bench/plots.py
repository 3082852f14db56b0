"""Bars as SVG, readable on light and dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 760
LABEL = 250
VALUE = 90
ROW = 22
GROUP = 30
HEAD = 44
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
OURS, OTHERS = "#2f7d5b", "#8a94a6"


@dataclass(frozen=True, slots=True)
class BarOf:
    """One bar.

    Attributes:
        label: What people call it.
        value: Its length; None where nothing was measured.
        shown: The value in words.
        ours: Whether it is Arqive's.
    """

    label: str
    value: float | None
    shown: str
    ours: bool


def bar_chart(title: str, groups: Sequence[tuple[str, Sequence[BarOf]]]) -> str:
    """A picture of groups of horizontal bars, each group by a scale of its own from zero."""
    height = HEAD + sum(GROUP + ROW * len(bars) for _, bars in groups) + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="16" y="28" font-size="16" font-weight="600" fill="#1b1f27">{escape(title)}</text>',
    ]
    top = HEAD
    for name, bars in groups:
        lines.append(f'<text x="16" y="{top + 19}" font-weight="600" fill="#4a5160">{escape(name)}</text>')
        top += GROUP
        longest = max((bar.value or 0.0 for bar in bars), default=0.0) or 1.0
        for bar in bars:
            lines += _bar(bar, top, (WIDTH - LABEL - VALUE) * (bar.value or 0.0) / longest)
            top += ROW
    return "\n".join([*lines, "</svg>", ""])


def _bar(bar: BarOf, top: int, length: float) -> list[str]:
    colour = OURS if bar.ours else OTHERS
    middle, weight = top + 15, ' font-weight="600"' if bar.ours else ""
    return [
        f'<text x="{LABEL - 8}" y="{middle}" text-anchor="end" fill="#1b1f27"{weight}>{escape(bar.label)}</text>',
        f'<rect x="{LABEL}" y="{top + 3}" width="{max(length, 1):.1f}" height="{ROW - 6}" rx="2" fill="{colour}"/>',
        f'<text x="{LABEL + max(length, 1) + 6:.1f}" y="{middle}" fill="#1b1f27"{weight}>{escape(bar.shown)}</text>',
    ]
