"""The commands that work on a run: discover, resume, retry."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from thresher.bootstrap import Discovery, choose_mode, make_limits, open_discovery
from thresher.cli.budget import Purse, is_exhausted, note_on, way_on
from thresher.cli.failures import ExitCode, exit_code_of, say, say_failure
from thresher.cli.summary import FACTS_SHOWN, print_facts, print_summary
from thresher.core.config import ProcessingMode, Settings
from thresher.core.errors import BadInput, FatalError, StateConflict, ThresherError
from thresher.engine.budget import Budget
from thresher.engine.control import RunControl, stop_on_signals
from thresher.engine.modes import ModeWish
from thresher.engine.progress import Event, FellBack, Listener
from thresher.engine.work import JsonObject, Priority, Run, RunReport, RunRequest, RunStatus
from thresher.operations.budgets import BudgetChange, check_price
from thresher.operations.formats import fallback_line, sentence
from thresher.persistence.repositories.items import Chosen, count_chosen, retry_items
from thresher.persistence.repositories.node_facts import sample_facts
from thresher.workflows.discovery import DiscoveryRequest, DiscoveryWorkflow, load_configurations
from thresher.workflows.discovery.report import result_of

EXIT_CODES = {
    RunStatus.SUCCEEDED: ExitCode.SUCCEEDED,
    RunStatus.PARTIAL: ExitCode.PARTIAL,
    RunStatus.RUNNING: ExitCode.INTERRUPTED,  # another process goes on with it
    RunStatus.PAUSED: ExitCode.INTERRUPTED,
    RunStatus.FAILED: ExitCode.FAILED,
    RunStatus.CANCELLED: ExitCode.INTERRUPTED,
}


@dataclass(frozen=True, slots=True)
class Output:
    """How results and progress are shown."""

    as_json: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class ModeAsked:
    """What the command line says of the mode."""

    given: ProcessingMode | None = None
    sequential: bool = False

    def wish(self, settings: Settings) -> ModeWish:
        """With what the settings say."""
        return choose_mode(settings, given=self.given, sequential=self.sequential)


def mode_asked(name: str | None, *, sequential: bool) -> ModeAsked:
    """The options ``--mode`` and ``--sequential``."""
    return ModeAsked(ProcessingMode(name) if name is not None else None, sequential)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What ``thresher discover`` was asked for."""

    files: Sequence[Path]
    paths: Sequence[str] = ()
    config: Path | None = None
    limit: int | None = None
    mode: ModeAsked = ModeAsked()
    priority: Priority = Priority.NORMAL
    budget: Budget | None = None


def budget_of(text: str | None) -> Budget | None:
    """What ``--budget`` says.

    Raises:
        BadConfiguration: it is no budget.
    """
    return None if text is None else Budget.parse(text)


def change_of(text: str | None) -> BudgetChange | None:
    """What ``--budget`` says of a run that goes on.

    Raises:
        BadConfiguration: it is no budget.
    """
    return BudgetChange.read(text)


def discover(settings: Settings, wanted: Wanted, output: Output) -> ExitCode:
    """One run per file, one after the other; the worst exit code of all."""
    nodes = load_configurations(wanted.config) if wanted.config is not None else ()
    worst = ExitCode.SUCCEEDED
    with open_discovery(settings) as discovery:
        request = DiscoveryRequest(Path(), wanted.paths, nodes, make_limits(discovery.settings), limit=wanted.limit)
        wish = wanted.mode.wish(discovery.settings)
        purse = Purse(wanted.budget)
        for number, file in enumerate(wanted.files, start=1):
            code = _discover_one(discovery, replace(request, path=file), _Start(wish, wanted.priority), purse, output)
            if code is ExitCode.INTERRUPTED:
                _say_what_was_not_begun(len(wanted.files) - number)
                return code
            worst = _worse(worst, code)
            if purse.is_empty and number < len(wanted.files):
                say(f"Not begun, since the budget is used up: {len(wanted.files) - number} further files.")
                return _worse(worst, ExitCode.PARTIAL)
    return worst


@dataclass(frozen=True, slots=True)
class _Start:
    wish: ModeWish
    priority: Priority


def _say_what_was_not_begun(files: int) -> None:
    if files:
        say(f"Not begun: {files} further " + ("file." if files == 1 else "files."))


def _discover_one(
    discovery: Discovery, request: DiscoveryRequest, start: _Start, purse: Purse, output: Output
) -> ExitCode:
    """A document that cannot be used does not stop the others."""
    try:
        new = DiscoveryWorkflow.prepare(request, start.wish.at_first, start.wish.reason)
        check_price(discovery.client, purse.budget)
        discovery.client.check()
    except (BadInput, FatalError) as error:
        _print_refusal(request.path, error, output)
        return exit_code_of(type(error).__name__)
    client = discovery.client
    if note := note_on(client, purse.budget):
        say(note)
    new = replace(new, provider=client.provider, model=client.model, priority=start.priority, budget=purse.budget)
    run = discovery.store.create_run(new)
    code = work_on(discovery, run, output, start.wish)
    purse.pay(discovery.store.totals(run.run_id).usage, discovery.store.get_run(run.run_id).error)
    return code


@dataclass(frozen=True, slots=True)
class Session:
    """How a run goes on: as this process is set, not as the earlier one was. ``budget`` None: as it is."""

    mode: ModeAsked = ModeAsked()
    budget: BudgetChange | None = None


def resume(settings: Settings, run_id: str, session: Session, output: Output) -> ExitCode:
    """Goes on with a run that was interrupted, killed or failed as a whole."""
    with open_discovery(settings) as discovery:
        run = discovery.store.find_run(run_id)
        counts = discovery.store.counts(run.run_id)
        if run.planning_complete and not counts.open and run.status is not RunStatus.CANCELLED:
            raise StateConflict(f"Run {run.run_id} is {run.status}: nothing is open. {_what_now(counts.dead, run)}")
        check_not_cancelled(run)
        return _go_on(discovery.read_as(run), run, session, output)


def retry(settings: Settings, run_id: str, chosen: Chosen, session: Session, output: Output) -> ExitCode:
    """Tries dead items of a run again (and cancelled ones, where they are meant), with fresh retries."""
    with open_discovery(settings) as discovery:
        run = discovery.store.find_run(run_id)
        if not chosen.cancelled:
            check_not_cancelled(run)
        is_unread = chosen.cancelled and run.status is RunStatus.CANCELLED and not run.planning_complete
        if not count_chosen(discovery.db, run.run_id, chosen) and not is_unread:
            raise StateConflict(f"Run {run.run_id} is {run.status} and has no {_described(chosen)} to retry.")
        return _go_on(discovery.read_as(run), run, session, output, chosen=chosen)


def check_not_cancelled(run: Run) -> None:
    """Refuses a run that is cancelled, before anything is asked of a model.

    Raises:
        StateConflict: it is.
    """
    if run.status is RunStatus.CANCELLED:
        hint = f"`thresher retry {run.run_id} --cancelled` brings its cancelled nodes back."
        raise StateConflict(f"Run {run.run_id} is cancelled. {hint}")


def _described(chosen: Chosen) -> str:
    """What was looked for, for the case that there is none."""
    state = "failed or cancelled node" if chosen.cancelled else "failed node"
    return f"{state} with {' or '.join(chosen.error_classes)}" if chosen.error_classes else state


def _go_on(
    discovery: Discovery, run: Run, session: Session, output: Output, *, chosen: Chosen | None = None
) -> ExitCode:
    """A further session works as this process is set, not as the earlier one was."""
    budget = run.budget if session.budget is None else session.budget.budget
    check_price(discovery.client, budget)
    discovery.client.check()
    if chosen is None:
        discovery.store.withdraw(run.run_id)
    else:
        retry_items(discovery.db, run.run_id, chosen)
    discovery.store.set_run_budget(run.run_id, budget)
    return work_on(discovery, replace(run, budget=budget), output, session.mode.wish(discovery.settings))


@contextmanager
def _progress(run: Run, output: Output) -> Iterator[Sequence[Listener]]:
    """Who shows how a run goes: where it is to be quiet, only what did not go as it was meant to."""
    if output.quiet:
        yield [_say_fallbacks]
        return
    from thresher.cli.display import ProgressDisplay  # noqa: PLC0415 # quiet runs do without what draws the bar

    with ProgressDisplay(str(run.source.get("name", run.run_id))) as display:
        yield [display]


def _say_fallbacks(event: Event) -> None:
    if isinstance(event, FellBack):
        say(f"Note: {fallback_line(event.fallback)}")


def work_on(discovery: Discovery, run: Run, output: Output, wish: ModeWish) -> ExitCode:
    """One session of a run, with progress on stderr and the result on stdout."""
    control = RunControl()
    announcement = "Stopping: finishing what is in hand. Press Ctrl-C again to leave it."
    gc.freeze()  # what was imported stays: to look it through again and again takes 2 % of a run's CPU
    with stop_on_signals(control, lambda: say(announcement)), _progress(run, output) as listeners:
        everyone = (*listeners, *discovery.observers.of_runs)
        report = discovery.runner.run(run.run_id, discovery.modes(wish), everyone, control)
    for change in discovery.client.fallbacks:
        say(f"Note: {change}")
    result = _print_result(discovery, report, output)
    if report.error is not None:
        hint = f" {way_on(result)}" if is_exhausted(report.error) else ""
        say(f"Error: {report.error['message']}{hint}")
    elif report.status in (RunStatus.FAILED, RunStatus.PARTIAL):
        say(_failed_nodes(result))
    elif control.request is not None:
        _say_what_was_asked(control.request, report)
    return exit_code(report.status, report.error)


def exit_code(status: RunStatus, error: JsonObject | None) -> ExitCode:
    """What a run's state, and the error that ended it as a whole, are to a shell."""
    has_stopped = status in (RunStatus.PAUSED, RunStatus.RUNNING)  # running: by another process, to its own end
    if error is not None and (status is RunStatus.FAILED or (has_stopped and is_exhausted(error))):
        return exit_code_of(str(error["class"]))
    return EXIT_CODES[status]


def _say_what_was_asked(request: RunRequest, report: RunReport) -> None:
    """Why this process ended before the run was done, and the way back."""
    run_id = report.run_id
    hints = {
        RunStatus.PAUSED: f"Paused, as asked: `thresher resume {run_id}` goes on.",
        RunStatus.CANCELLED: f"Cancelled, as asked: `thresher retry {run_id} --cancelled` brings what is left back.",
        RunStatus.RUNNING: f"Stopped, as asked to {request}; another process is finishing nodes of run {run_id}.",
    }
    if report.status in hints:  # else all was done by then
        say(hints[report.status])


def _print_result(discovery: Discovery, report: RunReport, output: Output) -> dict[str, Any]:
    result = result_of(discovery.store, discovery.db, report)
    if output.as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False) + "\n")
        return result
    console = Console(highlight=False)
    print_facts(sample_facts(discovery.db, report.run_id, FACTS_SHOWN), result["node_facts_extracted"], console)
    console.print()
    print_summary(result, console)
    return result


def _failed_nodes(result: Mapping[str, Any]) -> str:
    """How many nodes failed, the commonest reason, and what to do."""
    commonest = max(result["errors"], key=lambda error: error["count"])
    failed, reason = f"{result['nodes_failed']} of {result['nodes_total']}", sentence(commonest["message"])
    hint = f"`thresher retry {result['run_id']}` tries them again."
    return f"Error: {failed} nodes failed, most of all by {commonest['class']}: {reason} {hint}"


def _print_refusal(file: Path, error: ThresherError, output: Output) -> None:
    say_failure(error)
    if output.as_json:
        problem = {"class": type(error).__name__, "count": 1, "message": str(error)}
        refusal = {"run_id": None, "file": file.name, "status": "failed", "errors": [problem]}
        sys.stdout.write(json.dumps(refusal, ensure_ascii=False) + "\n")


def _worse(one: ExitCode, other: ExitCode) -> ExitCode:
    """The code that says more about trouble: bad input and failures before partial before success."""
    order = (ExitCode.SUCCEEDED, ExitCode.PARTIAL, ExitCode.FAILED, ExitCode.BAD_INPUT, ExitCode.INTERRUPTED)
    return max(one, other, key=order.index)


def _what_now(dead: int, run: Run) -> str:
    if dead:
        return f"`thresher retry {run.run_id}` tries its {dead} failed nodes again."
    return f"`thresher facts {run.run_id}` prints what was found."


def finish(code: ExitCode) -> None:
    """Ends a command with its exit code."""
    if code is not ExitCode.SUCCEEDED:
        raise typer.Exit(code)
