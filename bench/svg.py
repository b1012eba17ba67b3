"""Charts as SVG, written by hand: bars and lines, legible on light and dark pages."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH = 720
LABEL_WIDTH = 210
ROW = 30
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 15px }
.small { font-size: 12px; fill: #57606a } .axis { stroke: #d0d7de } .c0 { fill: #0969da; stroke: #0969da }
.c1 { fill: #bf8700; stroke: #bf8700 } .c2 { fill: #1a7f37; stroke: #1a7f37 } .c3 { fill: #8250df; stroke: #8250df }
.c4 { fill: #cf222e; stroke: #cf222e } .line { fill: none; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9198a1 } .axis { stroke: #3d444d }
.c0 { fill: #58a6ff; stroke: #58a6ff } .c1 { fill: #d29922; stroke: #d29922 } .c2 { fill: #3fb950; stroke: #3fb950 }
.c3 { fill: #bc8cff; stroke: #bc8cff } .c4 { fill: #ff7b72; stroke: #ff7b72 } .line { fill: none } }"""


@dataclass(frozen=True)
class Bar:
    """One bar: its name, its length, what stands behind it."""

    name: str
    length: float
    told: str
    colour: int = 0


@dataclass(frozen=True)
class Line:
    """One line through some points, x and y."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0


def document(title: str, height: int, parts: Sequence[str]) -> str:
    """A whole drawing; `title` is also what is read out."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n"
        f'<text class="title" x="0" y="18">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Horizontal bars, all from zero on one scale."""
    longest = max((bar.length for bar in rows), default=1) or 1
    parts = []
    for number, bar in enumerate(rows):
        y = 36 + number * ROW
        width = max(bar.length / longest * (WIDTH - LABEL_WIDTH - 150), 1)
        parts += [
            f'<text x="0" y="{y + 15}">{escape(bar.name)}</text>',
            f'<rect class="c{bar.colour}" x="{LABEL_WIDTH}" y="{y}" width="{width:.1f}" height="{ROW - 10}" rx="2"/>',
            f'<text class="small" x="{LABEL_WIDTH + width + 8:.1f}" y="{y + 15}">{escape(bar.told)}</text>',
        ]
    return document(title, 36 + len(rows) * ROW, parts)


def lines(title: str, series: Sequence[Line], x_title: str) -> str:
    """Lines over a logarithmic x, from zero on y; each point's x is written below."""
    every = [point for line in series for point in line.points]
    left, right, top, bottom = 40, WIDTH - 230, 40, 260
    low, high = (math.log10(pick(x for x, _ in every)) for pick in (min, max))
    tallest = max(y for _, y in every) * 1.1

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / (high - low or 1)
        return left + share * (right - left), bottom - y / tallest * (bottom - top)

    parts = [f'<path class="axis" d="M{left} {top}V{bottom}H{right}" fill="none"/>']
    for step in range(1, math.floor(tallest) + 1):
        y = place(10**low, step)[1]
        parts.append(f'<path class="axis" d="M{left} {y:.1f}H{right}" stroke-dasharray="2 4"/>')
        parts.append(f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{step}</text>')
    for x in sorted({x for x, _ in every}):
        at = place(x, 0)[0]
        parts.append(f'<text class="small" x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{x:,.0f}</text>')
    for number, line in enumerate(series):
        drawn = [place(*point) for point in line.points]
        parts.append(
            f'<polyline class="line c{line.colour}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)}"/>'
        )
        parts += [f'<circle class="c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in drawn]
        y = top + 8 + number * 22
        parts.append(f'<rect class="c{line.colour}" x="{right + 16}" y="{y - 9}" width="10" height="10" rx="2"/>')
        parts.append(f'<text class="small" x="{right + 32}" y="{y}">{escape(line.name)}</text>')
    parts.append(
        f'<text class="small" x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle">{x_title}</text>'
    )
    return document(title, bottom + 48, parts)
