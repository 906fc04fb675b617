"""Accuracy against milliseconds as an SVG: every model a point, those nothing beats joined by a line."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 400, 70, 30, 150, 50
TICKS = 5


def pareto(points: Sequence[tuple[str, float, float]], metric: str) -> str:
    """An SVG document.

    Parameters
    ----------
    points : (name, milliseconds, score) of each model
    metric : what the score is called
    """
    xs, ys = [p[1] for p in points], [p[2] for p in points]
    x0, x1 = 0.0, max(xs) * 1.1 or 1.0
    pad = max((max(ys) - min(ys)) * 0.15, 0.002)
    y0, y1 = min(ys) - pad, max(ys) + pad

    def at(x: float, y: float) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + (x - x0) / (x1 - x0) * wide, TOP + (y1 - y) / (y1 - y0) * high

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for i in range(TICKS + 1):
        x, y = x0 + (x1 - x0) * i / TICKS, y0 + (y1 - y0) * i / TICKS
        (px, bottom), (left, py) = at(x, y0), at(x0, y)
        lines.append(f'<path d="M{px:.1f} {TOP}V{bottom:.1f}M{left} {py:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        lines.append(f'<text x="{px:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{x:.3g}</text>')
        lines.append(f'<text x="{left - 8}" y="{py + 4:.1f}" text-anchor="end">{y:.2%}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    lines.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">milliseconds</text>')
    lines.append(f'<text x="{LEFT}" y="{TOP - 12}">{escape(metric)}</text>')
    best = [at(x, y) for _, x, y in front(points)]
    lines.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in best)}" fill="none" stroke="#27c"/>')
    for name, x, y in points:
        px, py = at(x, y)
        lines.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="#27c"/>')
        lines.append(f'<text x="{px + 8:.1f}" y="{py + 4:.1f}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def front(points: Sequence[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The points no other is both as fast and better than, or as good and faster than; by milliseconds."""
    kept: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda p: (p[1], -p[2])):
        if not kept or point[2] > kept[-1][2]:
            kept.append(point)
    return kept
