"""Shows what a document is and which paths could be read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from thresher.bootstrap import make_limits
from thresher.core.config import Settings
from thresher.operations.formats import size
from thresher.workflows.discovery import SourceDocument, survey


def inspect(settings: Settings, file: Path, depth: int, *, as_json: bool) -> None:
    """Prints a survey of a document as a tree or as JSON.

    Raises:
        BadInput: the document cannot be used.
    """
    limits = make_limits(settings)
    seen = survey(SourceDocument.open(file, limits), limits).to_dict()
    if as_json:
        sys.stdout.write(json.dumps(seen, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    for line in _head(seen):
        console.print(line, markup=False)
    console.print(_tree(seen["paths"], depth))  # type: ignore[arg-type] # as Survey writes it
    note = f"● is read by `thresher discover {file}`; other paths with --path. Sizes: smallest … median … largest."
    console.print(note, style="dim", markup=False)


def _head(seen: dict[str, Any]) -> list[str]:
    parts = [str(seen[key]) for key in ("root", "version", "sender") if seen[key]]
    lines = [f"{seen['name']}: {' '.join(parts)}, {size(seen['size_bytes'])}, {seen['encoding']}"]
    if not seen["complete"]:
        lines.append(f"Counts and sizes are those of the first {size(seen['bytes_read'])}.")
    return lines


def _tree(paths: list[dict[str, Any]], depth: int) -> Tree:
    """The paths as a tree, down to ``depth``, and all that will be read; the others are counted."""
    branches: dict[str, Tree] = {}
    root = Tree("", hide_root=True)
    hidden = 0
    leading = {ancestor for entry in paths if entry["chosen"] for ancestor in _paths_to(entry["path"])}
    for entry in paths:
        if entry["depth"] > depth and entry["path"] not in leading:
            hidden += 1
            continue
        parent = branches.get(entry["path"].rpartition("/")[0], root)
        branches[entry["path"]] = parent.add(_label(entry))
    if hidden:
        root.add(Text(f"… {hidden} deeper paths (--depth shows more)", style="dim"))
    return root


def _paths_to(path: str) -> Iterator[str]:
    """A path and all those above it: ``/a``, ``/a/b``, ``/a/b/c``."""
    return accumulate(path.split("/"), lambda above, step: f"{above}/{step}")


def _label(entry: dict[str, Any]) -> Text:
    name = entry["path"].rpartition("/")[2]
    mark = Text("● ", style="bold green") if entry["chosen"] else Text()
    count = f" x{entry['count']}" if entry["count"] > 1 else ""
    smallest, median, largest = (size(entry[f"bytes_{which}"]) for which in ("min", "median", "max"))
    sizes = f"  {median}" if smallest == largest else f"  {smallest} … {median} … {largest}"
    return Text.assemble(mark, (name, "bold" if entry["chosen"] else ""), (count, "cyan"), (sizes, "dim"))
