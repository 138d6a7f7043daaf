"""The splitter against bare lxml iterparse on the same document, in the same run; trust the ratios.

``python benchmarks/splitter.py [FILE | SIZE_IN_MB]``: without a file it writes an NDC-like message of its own
into a temporary file. ``iterparse`` filters by tag, clears each element and deletes its previous siblings;
``iterparse, serialized`` also writes each element out, as a program that hands subtrees on has to.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lxml import etree

from thresher.workflows.discovery.subtrees import SourceDocument, parse_paths, split

NAMESPACE = "http://www.iata.org/IATA/2015/00/2019.2/IATA_OrderViewRS"
PATH = "DataLists/PaxSegmentList/PaxSegment"
TAG = "{*}PaxSegment"
ROUNDS = 3
MEGABYTE = 1_000_000
_LEG = """
            <DatedOperatingLeg>
              <Arrival><IATA_LocationCode>LHR</IATA_LocationCode><AircraftScheduledDateTime>2026-03-{day:02d}T12:55:00</AircraftScheduledDateTime></Arrival>
              <CarrierAircraftType><CarrierAircraftTypeCode>32{leg}</CarrierAircraftTypeCode></CarrierAircraftType>
              <DatedOperatingLegID>LEG{number}-{leg}</DatedOperatingLegID>
              <Dep><IATA_LocationCode>BCN</IATA_LocationCode><AircraftScheduledDateTime>2026-03-{day:02d}T10:25:00</AircraftScheduledDateTime></Dep>
              <DistanceMeasure UnitCode="KMT">1146</DistanceMeasure>
            </DatedOperatingLeg>"""
_SEGMENT = """
          <PaxSegment>
            <Arrival><IATA_LocationCode>LHR</IATA_LocationCode></Arrival>{legs}
            <Dep><IATA_LocationCode>BCN</IATA_LocationCode></Dep>
            <Duration>PT2H30M</Duration>
            <MarketingCarrierInfo><CarrierDesigCode>XX</CarrierDesigCode><MarketingCarrierFlightNumberText>{number}</MarketingCarrierFlightNumberText></MarketingCarrierInfo>
            <PaxSegmentID>SEG{number}</PaxSegmentID>
          </PaxSegment>"""


def write_message(place: Path, size: int) -> None:
    """Writes a message of about ``size`` bytes whose segments are about 1.5 KB each."""
    with place.open("w", encoding="utf-8") as stream:
        stream.write(f'<IATA_OrderViewRS xmlns="{NAMESPACE}">\n  <Response><DataLists><PaxSegmentList>')
        number = 0
        while number % 1_000 or stream.tell() < size:
            legs = "".join(_LEG.format(number=number, leg=leg, day=1 + number % 28) for leg in range(2))
            stream.write(_SEGMENT.format(number=number, legs=legs))
            number += 1
        stream.write("\n</PaxSegmentList></DataLists></Response></IATA_OrderViewRS>\n")


def by_iterparse(place: Path, *, serialize: bool) -> int:
    """Bare lxml: tag filter, clear, delete previous siblings."""
    count = 0
    with place.open("rb") as stream:
        for _, element in etree.iterparse(
            stream, tag=TAG, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
        ):
            if serialize:
                etree.tostring(element)
            count += 1
            element.clear()
            parent = element.getparent()
            while parent is not None and element.getprevious() is not None:
                del parent[0]
    return count


def by_splitter(place: Path) -> int:
    """Ours: every subtree as text, with its path, place and namespaces."""
    return sum(1 for _ in split(SourceDocument.open(place), parse_paths([PATH])))


def measure(path_or_size: Path | int = 100 * MEGABYTE) -> dict[str, float]:
    """Measures on a file, or on a message of so many bytes.

    Speeds are MB of document per second of CPU time, the best of three alternating rounds. ``first_item_seconds``
    is wall time from opening the document. ``peak_mib`` is what splitting adds to the interpreter's peak.
    """
    if isinstance(path_or_size, Path):
        return _measure_file(path_or_size)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "message.xml"
        write_message(place, path_or_size)
        return _measure_file(place)


def _measure_file(place: Path) -> dict[str, float]:
    ways: dict[str, Callable[[], int]] = {
        "splitter": lambda: by_splitter(place),
        "iterparse": lambda: by_iterparse(place, serialize=False),
        "iterparse_serialized": lambda: by_iterparse(place, serialize=True),
    }
    best = dict.fromkeys(ways, float("inf"))
    counts = set()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            counts.add(way())
            best[name] = min(best[name], time.process_time() - started)
    assert len(counts) == 1, counts
    size = place.stat().st_size / MEGABYTE
    figures = {f"{name}_mb_per_second": round(size / seconds, 1) for name, seconds in best.items()}
    return figures | {
        "document_mb": round(size, 1),
        "subtrees": counts.pop(),
        "ratio_to_iterparse": round(best["iterparse"] / best["splitter"], 2),
        "ratio_to_iterparse_serialized": round(best["iterparse_serialized"] / best["splitter"], 2),
        "first_item_seconds": round(_first_item(place), 4),
        "peak_mib": round(_peak_of_splitting(place), 1),
    }


def _first_item(place: Path) -> float:
    started = time.perf_counter()
    next(split(SourceDocument.open(place), parse_paths([PATH])))
    return time.perf_counter() - started


def _peak_of_splitting(place: Path) -> float:
    """In a process of its own: how much the peak of memory grows while the document is split, in MiB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_grown_peak, (place,))


def _grown_peak(place: Path) -> float:
    before = _peak_kib()
    by_splitter(place)
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    """The peak of this process; ``ru_maxrss`` would count its parent's, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    """Prints the figures as JSON."""
    given = sys.argv[1] if len(sys.argv) > 1 else "100"
    print(json.dumps(measure(int(given) * MEGABYTE if given.isdigit() else Path(given)), indent=2))


if __name__ == "__main__":
    main()
