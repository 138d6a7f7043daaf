"""The commands and their options; what they do is imported when one is called, so that help is quick."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from thresher.cli.failures import ExitCode, explain_usage, failures_explained, leave_workers_behind

if TYPE_CHECKING:
    from thresher.core.config import Settings

app = typer.Typer(
    name="thresher",
    help="Facts from every subtree of a large XML document, each proved by its path in the source.",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: importing what Rich's needs costs 0.3 s of CPU
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
database_app = typer.Typer(help="Set up the database, see its version.", no_args_is_help=True, rich_markup_mode=None)
model_app = typer.Typer(
    help="Serve a model on this machine, without internet.", no_args_is_help=True, rich_markup_mode=None
)
cache_app = typer.Typer(help="See and clear the answers that are kept.", no_args_is_help=True, rich_markup_mode=None)
keys_app = typer.Typer(help="Make, list and revoke keys to the API.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(database_app, name="db")
app.add_typer(cache_app, name="cache")
app.add_typer(model_app, name="model")
app.add_typer(keys_app, name="keys")


class ProviderName(StrEnum):
    """Who reads the subtrees."""

    AUTO = "auto"
    STRUCTURAL = "structural"
    OPENAI = "openai"
    AZURE = "azure"
    LOCAL = "local"


class ModeName(StrEnum):
    """How nodes are handed to workers."""

    AUTO = "auto"
    PARALLEL = "parallel"
    BATCH = "batch"
    SEQUENTIAL = "sequential"


class PriorityName(StrEnum):
    """Which of several runs goes first."""

    IMMEDIATE = "immediate"
    NORMAL = "normal"
    LOW = "low"


class RoleName(StrEnum):
    """What a key allows."""

    READ = "read"
    WRITE = "write"


class FactFormat(StrEnum):
    """How facts are written."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"


RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of a run (`thresher runs` lists them), or enough of its beginning.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr; errors are still shown.")]
SequentialOption = Annotated[
    bool, typer.Option("--sequential", help="One node after the other, in document order (for debugging).")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", "-w", min=1, max=1024, help="Nodes read at once (default: MAX_PARALLEL_NODES, 10)."),
]
ModeOption = Annotated[
    ModeName | None,
    typer.Option(
        "--mode", help="In parallel, several per request (batch), or one by one (default: PROCESSING_MODE, auto)."
    ),
]
ProviderOption = Annotated[
    ProviderName | None, typer.Option(help="Who reads the subtrees (default: LLM_PROVIDER, auto).")
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="Spend no more than this over all FILEs: 0.50 or $0.50 (US dollars), 200000tokens or 200ktokens.",
    ),
]
NewBudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT",
        help="A new budget for the whole run, with what is spent already: $0.50, 200ktokens, or none.",
    ),
]
ErrorClassOption = Annotated[
    list[str] | None,
    typer.Option(help="Only nodes that failed with this error, such as RateLimited. May be given several times."),
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Only ask; do not wait until it has taken effect.")]
TimeoutOption = Annotated[
    float, typer.Option(min=0.1, help="Seconds to wait for the nodes in hand; then exit code 1, the request stays.")
]
ModelOption = Annotated[str | None, typer.Option(help="Name of the model (default: LLM_MODEL).")]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 # as Typer calls it
    if wanted:
        from importlib.metadata import version

        typer.echo(f"thresher {version('thresher')}")
        raise typer.Exit


@app.callback()
def configure(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Facts from every subtree of a large XML document, each proved by its path in the source."""


@app.command()
def discover(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="XML documents, also gzipped.")],
    path: Annotated[
        list[str] | None,
        typer.Option(
            "--path", "-p", help="Subtrees to read, such as DataLists/PaxList/Pax. May be given several times."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="YAML file: which paths are read, and how.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only so many subtrees, to try things out.")] = None,
    workers: WorkersOption = None,
    mode: ModeOption = None,
    sequential: SequentialOption = False,
    provider: ProviderOption = None,
    model: ModelOption = None,
    no_cache: Annotated[
        bool,
        typer.Option("--no-cache", help="Ask the model anew for every subtree, and keep no answer (CACHE_ANSWERS)."),
    ] = False,
    budget: BudgetOption = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate requests, tokens, cost and time; send nothing, store nothing."),
    ] = False,
    priority: Annotated[
        PriorityName, typer.Option(help="Which run goes first where several wait for the same model.")
    ] = PriorityName.NORMAL,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read every subtree of FILE, many at a time, and keep the proved facts.

    Without --path and --config the subtrees are chosen from the document's structure (see `thresher inspect`).

    Exit code: 0 all well, 1 failed, 2 bad input, 3 some nodes failed or the budget is used up, 130 interrupted, paused
    (`thresher resume` goes on) or cancelled.
    """
    with failures_explained():
        from thresher.cli import discover as command
        from thresher.engine.work import Priority

        cache_answers = False if no_cache else None
        settings = _settings(
            max_parallel_nodes=workers, llm_provider=provider, llm_model=model, cache_answers=cache_answers
        )
        asked = command.mode_asked(mode, sequential=sequential)
        wanted = command.Wanted(
            files, path or (), config, limit, asked, Priority[priority.name], command.budget_of(budget)
        )
        if dry_run:
            from thresher.cli.estimate import print_estimates

            print_estimates(settings, wanted, as_json=as_json)
            return
        command.finish(command.discover(settings, wanted, command.Output(as_json, quiet)))


@app.command()
def resume(
    run: RunArgument,
    workers: WorkersOption = None,
    mode: ModeOption = None,
    sequential: SequentialOption = False,
    budget: NewBudgetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with a run that was paused, interrupted or killed; what is done stays done and is not paid again."""
    with failures_explained():
        from thresher.cli import discover as command

        output = command.Output(as_json, quiet)
        session = command.Session(command.mode_asked(mode, sequential=sequential), command.change_of(budget))
        code = command.resume(_settings(max_parallel_nodes=workers), run, session, output)
        command.finish(code)


@app.command()
def retry(
    run: RunArgument,
    item: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this node, by its path or id (`thresher dead` shows both). May be given several times."
        ),
    ] = None,
    error_class: ErrorClassOption = None,
    cancelled: Annotated[
        bool, typer.Option("--cancelled", help="Also nodes that were cancelled, and the rest of a cancelled run.")
    ] = False,
    workers: WorkersOption = None,
    mode: ModeOption = None,
    sequential: SequentialOption = False,
    budget: NewBudgetOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Try the failed nodes of a run again, or some of them; those that are done are left alone."""
    with failures_explained():
        from thresher.cli import discover as command
        from thresher.persistence.repositories.items import Chosen

        output = command.Output(as_json, quiet)
        session = command.Session(command.mode_asked(mode, sequential=sequential), command.change_of(budget))
        chosen = Chosen(item or (), error_class or (), cancelled)
        code = command.retry(_settings(max_parallel_nodes=workers), run, chosen, session, output)
        command.finish(code)


@app.command()
def pause(
    run: RunArgument, no_wait: NoWaitOption = False, timeout: TimeoutOption = 60.0, as_json: JsonOption = False
) -> None:
    """Pause a run, whichever process works on it: nodes in hand are finished, no other starts."""
    with failures_explained():
        _ask(run, "pause", 0.0 if no_wait else timeout, as_json=as_json)


@app.command()
def cancel(
    run: RunArgument, no_wait: NoWaitOption = False, timeout: TimeoutOption = 60.0, as_json: JsonOption = False
) -> None:
    """Cancel a run, whichever process works on it: nodes in hand are finished and kept, the others are cancelled."""
    with failures_explained():
        _ask(run, "cancel", 0.0 if no_wait else timeout, as_json=as_json)


@app.command()
def watch(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show the progress of a run that another process works on, until it ends; exit code as the run's."""
    with failures_explained():
        from thresher.cli import watch as command
        from thresher.cli.discover import finish

        finish(command.watch(_settings(), run, as_json=as_json))


@app.command()
def dead(
    run: RunArgument,
    error_class: ErrorClassOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Also print the last answer that was of no use.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the nodes of a run that failed for good: error, message, and every try."""
    with failures_explained():
        from thresher.cli import dead as command

        command.print_dead(_settings(), run, error_class or (), with_answers=raw, as_json=as_json)


@app.command()
def facts(
    run: RunArgument,
    output_format: Annotated[
        FactFormat, typer.Option("--format", "-f", help="How the facts are written.")
    ] = FactFormat.JSONL,
    node_type: Annotated[str | None, typer.Option(help="Only facts of this element, such as Pax.")] = None,
    include_ungrounded: Annotated[
        bool,
        typer.Option("--include-ungrounded", help="Also values that were not found at their path, marked as such."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, whole or not at all.")
    ] = None,
) -> None:
    """Print the facts of a run, in document order; only values that are proved, unless told otherwise."""
    with failures_explained():
        from thresher.cli import facts as command

        selection = command.Selection(run, node_type, include_ungrounded)
        command.export(_settings(), selection, output_format.value, output)


@app.command()
def evaluate(
    run: RunArgument,
    gold: Annotated[
        Path,
        typer.Option("--gold", "-g", help="File of checked values: `thresher facts` output, or a CSV or TSV table."),
    ],
    misses: Annotated[
        int, typer.Option("--misses", "-n", min=0, help="How many mistakes of each kind are listed; --json has all.")
    ] = 20,
    include_ungrounded: Annotated[
        bool, typer.Option("--include-ungrounded", help="Judge also values that were not found at their path.")
    ] = False,
    all_nodes: Annotated[
        bool, typer.Option("--all-nodes", help="Values of nodes that the gold does not name are false, too.")
    ] = False,
    gold_fields_only: Annotated[
        bool, typer.Option("--gold-fields-only", help="Judge only fields whose name stands somewhere in the gold.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a run against values that you have checked: precision, recall and F1 per field, and every mistake."""
    with failures_explained():
        from thresher.cli import evaluate as command

        listed = None if as_json else misses
        scope = command.Scope(include_ungrounded, all_nodes, gold_fields_only, listed)
        command.evaluate_run(_settings(), command.Wanted(run, gold, scope), as_json=as_json)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="RUN", help="The run before.")],
    new: Annotated[str, typer.Argument(metavar="RUN", help="The run after, of the same document or another version.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many facts are shown; --json has all.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show which facts were added, lost and changed between two runs.

    Exit code, as that of diff: 0 the facts are equal, 1 they differ, 2 trouble.
    """
    with _trouble_is_two(), failures_explained():
        from thresher.cli import compare as command

        equal = command.compare_runs(_settings(), (old, new), limit, as_json=as_json)
    if not equal:
        raise typer.Exit(1)


@contextmanager
def _trouble_is_two() -> Iterator[None]:
    """1 is what ``diff`` says of facts that differ, so that a failure cannot be 1, too."""
    try:
        yield
    except typer.Exit as ended:
        if ended.exit_code == ExitCode.FAILED:
            raise typer.Exit(ExitCode.BAD_INPUT) from ended
        raise


@app.command()
def runs(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the runs, newest first."""
    with failures_explained():
        from thresher.cli import runs as command

        command.list_runs(_settings(), limit, as_json=as_json)


@app.command()
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show a run: what was read, found, paid, and what failed."""
    with failures_explained():
        from thresher.cli import runs as command

        command.show_run(_settings(), run, as_json=as_json)


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: SERVE_HOST, 127.0.0.1); any other needs keys.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port (default: SERVE_PORT, 8000); 0 takes a free one.")
    ] = None,
) -> None:
    """Serve the API until Ctrl-C; runs work in the background, and go on with the next start."""
    with failures_explained():
        settings = _settings(serve_host=host, serve_port=port)
        from thresher.cli import serve as command
        from thresher.cli.discover import finish

        finish(command.serve(settings))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An XML document, also gzipped.")],
    depth: Annotated[int, typer.Option(min=1, help="How many levels of the tree are shown.")] = 6,
    as_json: JsonOption = False,
) -> None:
    """Show what a document is and which paths could be read (count, sizes), without storing anything."""
    with failures_explained():
        from thresher.cli import inspect as command

        command.inspect(_settings(), file, depth, as_json=as_json)


@app.command()
def sample(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write (default: stdout).")] = None,
    message: Annotated[str, typer.Option(help="OrderViewRS or AirShoppingRS.")] = "OrderViewRS",
    version: Annotated[str, typer.Option(help="17.2, 19.2 or 21.3.")] = "19.2",
    size: Annotated[str, typer.Option(help="About how large, such as 200KB, 5MB or 1GB.")] = "200KB",
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
) -> None:
    """Write an NDC message of invented content, of any size."""
    with failures_explained():
        from thresher.cli import sample as command

        command.write(command.Sample(message, version, size, seed), output)


@database_app.command("upgrade")
def database_upgrade(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing where all is well.")] = False,
) -> None:
    """Bring the database of DATABASE_URL to the newest version; where there is none, create it."""
    with failures_explained():
        from thresher.cli import database as command

        command.upgrade(_settings(), quiet=quiet)


@database_app.command("current")
def database_current(as_json: JsonOption = False) -> None:
    """Print the version of the database, or `empty`."""
    with failures_explained():
        from thresher.cli import database as command

        command.current(_settings(), as_json=as_json)


@database_app.command("check")
def database_check() -> None:
    """Say whether the database can be used; exit code 2 if not."""
    with failures_explained():
        from thresher.cli import database as command

        command.check(_settings())


@cache_app.command("stats")
def cache_stats(as_json: JsonOption = False) -> None:
    """Show how many answers are kept, by provider and model, and what they have saved."""
    with failures_explained():
        from thresher.cli import cache as command

        command.stats(_settings(), as_json=as_json)


@cache_app.command("clear")
def cache_clear(
    model: Annotated[str | None, typer.Option(help="Only answers of this model.")] = None,
    older_than: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=0, max=36_500, help="Only answers that the model gave longer ago than DAYS."),
    ] = None,
) -> None:
    """Delete kept answers, all of them unless told otherwise. The facts of runs stay."""
    with failures_explained():
        from thresher.cli import cache as command

        command.clear(_settings(), model, older_than)


@model_app.command("serve")
def model_serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8090,
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file (default: the packaged SmolLM2-135M).")] = None,
    slots: Annotated[int, typer.Option(min=1, max=64, help="Requests at once.")] = 2,
    context: Annotated[int, typer.Option(min=512, help="Tokens per request: prompt and answer.")] = 4096,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the model; one is best on a busy machine.")] = 1,
) -> None:
    """Serve a model on this machine (OpenAI-compatible, loopback only) until Ctrl-C."""
    with failures_explained():
        from thresher.cli import model as command

        command.serve(command.LocalModel(gguf, port=port, slots=slots, context_tokens=context, threads=threads))


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or what for.")],
    workspace: Annotated[str, typer.Option("--workspace", help="The workspace that it opens.")] = "default",
    role: Annotated[RoleName, typer.Option(help="read: look at everything in it. write: also change it.")] = (
        RoleName.WRITE
    ),
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Valid for so many days (default: always).")
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Requests in a minute (default: API_REQUESTS_PER_MINUTE).")
    ] = None,
    max_upload_bytes: Annotated[
        int | None, typer.Option(min=1, help="Largest document that it may upload (default: MAX_UPLOAD_BYTES).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key to a workspace and print it, this once: only its hash is stored."""
    with failures_explained():
        from datetime import UTC, datetime, timedelta

        from thresher.cli import keys as command
        from thresher.core.access import Role
        from thresher.persistence.repositories.api_keys import NewKey

        expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
        new = NewKey(workspace, name, Role(role.value), expires, requests_per_minute, max_upload_bytes)
        command.create(_settings(), new, as_json=as_json)


@keys_app.command("list")
def keys_list(
    workspace: Annotated[str | None, typer.Option("--workspace", help="Only keys to this workspace.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the keys, without their secrets: whose, to what, until when, last used."""
    with failures_explained():
        from thresher.cli import keys as command

        command.list_all(_settings(), workspace, as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Id of a key, as `thresher keys list` shows it.")],
) -> None:
    """Make a key open nothing any more, at once and for good."""
    with failures_explained():
        from thresher.cli import keys as command

        command.revoke(_settings(), key)


def run() -> int:
    """Runs the command line of this process and returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be no text
    try:
        code = int(app(standalone_mode=False) or 0)
    except TyperException as error:
        explain_usage(error)
        return ExitCode.BAD_INPUT
    if code == ExitCode.INTERRUPTED:
        leave_workers_behind(code)
    return code


def _ask(run: str, request: str, longest: float, *, as_json: bool) -> None:
    from thresher.cli import control as command
    from thresher.cli.discover import finish
    from thresher.engine.work import RunRequest

    finish(command.ask(_settings(), run, RunRequest(request), command.Waiting(longest, as_json)))


def _settings(**overrides: object) -> Settings:
    """The settings of this process with the options that were given."""
    from thresher.core.config import load_settings
    from thresher.core.logging import LogOptions, configure_logging

    given = {name: value for name, value in overrides.items() if value is not None}
    settings = load_settings(**given)
    configure_logging(LogOptions(settings.log_level, settings.log_format, settings.log_file, settings.secrets()))
    return settings
