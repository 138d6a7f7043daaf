"""How long people wait before anything happens."""

from __future__ import annotations

from measurement import HERE, Folder, Row, Scale, folder

REPOSITORY = HERE.parent


def measure(scale: Scale) -> list[Row]:
    """Whole processes, by the wall and, less disturbed by others, by CPU; a first call may compile and is left out."""
    rounds = scale.pick(7, 3)
    with folder() as place:
        here = Folder(REPOSITORY, {"DATABASE_URL": f"sqlite:///{place.path / 'thresher.db'}"})
        bundled = REPOSITORY / "samples" / "OrderViewRS_19.2.xml"
        runs = {
            "thresher --help": lambda: place.thresher("--help").wall,
            "thresher --help, CPU": lambda: place.thresher("--help").cpu,
            "thresher runs": lambda: place.thresher("runs").wall,
            "make discover, second call, beyond the run itself": lambda: _overhead(here),
            "thresher discover of the bundled document": lambda: place.thresher("discover", bundled, "--json").wall,
            "thresher discover of the bundled document, CPU": lambda: place.thresher("discover", bundled, "--json").cpu,
        }
        for call in runs.values():
            call()
        walls = {name: [call() for _ in range(rounds)] for name, call in runs.items()}
    targets = {"thresher --help": 0.5, "make discover, second call, beyond the run itself": 2.0}
    return [Row(name, values, "s", at_most=targets.get(name)) for name, values in walls.items()]


def _overhead(here: Folder) -> float:
    """The wall of ``make discover`` without the run's own elapsed time."""
    spent = here.run("make", "--no-print-directory", "discover", "ARGS=--json --quiet")
    return float(spent.wall - spent.json["elapsed_seconds"])
