"""Draws the newest figures of ``benchmarks/results`` into ``docs/images/benchmarks.png`` (make bench-chart).

Two pictures in one: every figure that has a target as a share of it, and what others do at a limit of 20 requests/s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).resolve().parent
PICTURE = HERE.parent / "docs" / "images" / "benchmarks.png"
KEPT, MISSED, OTHERS, INK, FAINT = "#3f7d58", "#b8472f", "#9aa3ad", "#22272e", "#d9dde2"
OURS = "Thresher"
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # a text stands before the line
LONGEST_BAR = 1.6  # of a target; what is worse is cut there and says its figure


def main() -> int:
    """Draws; 1 where nothing has been measured."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((HERE / "results").glob("*.json"))]
    targets = [row for result in results for row in result["rows"] if row["target"] and row["value"] is not None]
    peers = _peers({result["benchmark"]: result["rows"] for result in results})
    if not targets:
        print("Nothing is measured yet: make bench", file=sys.stderr)
        return 1
    plt.rcParams.update({"font.size": 9, "axes.edgecolor": FAINT, "text.color": INK, "axes.labelcolor": INK})
    heights = [max(len(targets) * 0.26, 2), max(len(peers) * 0.34, 1.4)] if peers else [max(len(targets) * 0.26, 2)]
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(9, sum(heights) + 1.4), height_ratios=heights, layout="constrained", squeeze=False
    )
    _draw_targets(axes[0][0], targets)
    if peers:
        _draw_peers(axes[1][0], peers)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=90, pil_kwargs={"optimize": True})
    print(PICTURE)
    return 0


def _draw_targets(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Each figure over its target, so that all are reached left of the line, whichever way they count."""
    shares = [_share(row) for row in rows]
    places = range(len(rows))[::-1]
    colours = [KEPT if row["passed"] else MISSED for row in rows]
    axes.barh(list(places), [min(share, LONGEST_BAR) for share in shares], color=colours, height=0.62)
    axes.axvline(1.0, color=INK, linewidth=1)
    for place, row, share in zip(places, rows, shares, strict=True):
        said = f"{row['value']:.3g} {row['unit']}".strip() + f"  ({row['target']})"
        axes.text(min(share, LONGEST_BAR) + 0.015, place, said, va="center", fontsize=7.5, bbox=BEHIND)
    axes.set_yticks(list(places), [row["name"].strip() for row in rows], fontsize=7.5)
    axes.set_xlim(0, LONGEST_BAR + 0.35)
    axes.set_title("Figures over their targets: reached left of the line", loc="left", fontweight="bold")
    _plain(axes)


def _share(row: dict[str, Any]) -> float:
    """1 is the target; less is better. A figure that has to be large is turned round; a target of 0 counts from 1."""
    direction, _, number = row["target"].partition(" ")
    target, value = float(number), float(row["value"])
    if direction == ">=":
        return target / value if value else LONGEST_BAR
    return value / target if target else 0.0 if value == 0 else 1.0 + value


def _peers(rows_of: dict[str, list[dict[str, Any]]]) -> list[tuple[str, float, float]]:
    """Who, wall over ideal, items lost of 100, at 20 requests/s told by headers and 64 workers."""
    ours = (row for row in rows_of.get("limits", []) if "told by headers, 64 workers" in row["name"])
    found = [(OURS, float(row["value"]), 0.0) for row in ours if row["name"].endswith("wall / ideal")]
    peers: dict[str, dict[str, float]] = {}
    for row in rows_of.get("peers", []):
        who, _, what = row["name"].partition(": ")
        if what.startswith("20/s"):
            peers.setdefault(who, {})["lost" if what.endswith("lost") else what.rpartition(": ")[2]] = row["value"]
    return found + [(who, of["wall / ideal"], of["lost"] / 4.0) for who, of in peers.items() if "wall / ideal" in of]


def _draw_peers(axes: Axes, peers: list[tuple[str, float, float]]) -> None:
    places = range(len(peers))[::-1]
    colours = [KEPT if of[0] == OURS else OTHERS for of in peers]
    axes.barh(list(places), [of[1] for of in peers], color=colours, height=0.6)
    for place, (_, wall, lost) in zip(places, peers, strict=True):
        said = f"{wall:.2f}, nothing lost" if not lost else f"{wall:.2f}, {lost:.0f} % of the items lost"
        axes.text(wall + 0.03, place, said, va="center", fontsize=7.5, bbox=BEHIND)
    axes.set_yticks(list(places), [of[0] for of in peers])
    axes.set_xlim(0, max(of[1] for of in peers) * 1.35)
    axes.axvline(1.0, color=INK, linewidth=1)
    axes.set_title("At 20 requests/s, 64 workers: wall over ideal", loc="left", fontweight="bold")
    _plain(axes)


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    axes.margins(y=0.01)
    axes.set_xticks([])


if __name__ == "__main__":
    sys.exit(main())
