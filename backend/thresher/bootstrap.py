"""The one composition root: settings become a database, a model client, an engine and workflows."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING
from weakref import WeakSet

from thresher.core.config import ProcessingMode, Provider, Settings
from thresher.core.errors import BadConfiguration, BadInput, FatalError
from thresher.engine.admission import ResourceLimits
from thresher.engine.breaker import BreakerPolicy
from thresher.engine.control import RunControl
from thresher.engine.executors.batch import BatchExecutor
from thresher.engine.executors.port import Executor
from thresher.engine.executors.sequential import SequentialExecutor
from thresher.engine.executors.threads import ThreadsExecutor
from thresher.engine.feed import Background, ProgressFeed
from thresher.engine.gate import Resources
from thresher.engine.host import HostOptions, RunHost
from thresher.engine.modes import ENOUGH_TO_DECIDE, Modes, ModeWish, decide
from thresher.engine.ownership import is_dead
from thresher.engine.ports import Workflow
from thresher.engine.progress import Listener, RunFinished
from thresher.engine.reports import failure_of, report_of
from thresher.engine.resource_events import ResourceListener
from thresher.engine.resource_log import ResourceLog
from thresher.engine.retry import RetryPolicy
from thresher.engine.runner import Runner, RunnerOptions
from thresher.engine.work import Mode, NewRun, Run, RunReport, RunStatus
from thresher.llm.cache import CACHED_ANSWERS, AnswerCache, key_of
from thresher.llm.client import ModelClient
from thresher.llm.hedging import Hedge
from thresher.llm.masking import Masker
from thresher.llm.prices import Prices
from thresher.llm.providers.preparation import AzureServer, OpenAIServer
from thresher.llm.providers.silent import SilentClient
from thresher.llm.providers.structural import StructuralClient
from thresher.llm.structured import AnswerLadder
from thresher.persistence import migrations
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine, is_missing
from thresher.persistence.repositories.cached_answers import CachedAnswers
from thresher.persistence.repositories.costs import experience_with
from thresher.persistence.repositories.node_facts import fact_counts, insert_node_facts
from thresher.persistence.repositories.run_queue import SqlRunQueue
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.source_files import SourceFiles
from thresher.workflows.discovery import (
    AnswerBounds,
    BatchLimits,
    DiscoveryWorkflow,
    Limits,
    NodeConfiguration,
    NodeReader,
)
from thresher.workflows.discovery.discovery_workflow import KIND, path_of
from thresher.workflows.discovery.estimate import Estimate, KnownAnswers, Pace, estimate, measure, measure_groups
from thresher.workflows.discovery.node_reader import Ladder
from thresher.workflows.discovery.stored_configurations import stored_nodes

if TYPE_CHECKING:
    from thresher.integrations.metrics import Metrics

DEFAULT_MODEL = "gpt-4o-mini"
_M_ARENA_MAX = -8  # malloc.h
_MEGABYTE = 1024**2


@contextmanager
def open_database(settings: Settings) -> Iterator[ThreadSafeDatabaseManager]:
    """The database of ``DATABASE_URL``, of the right version; an empty one is set up.

    Raises:
        DatabaseUnusable: it cannot be opened, or is of another version.
    """
    engine = create_engine(settings.database_url)
    db = ThreadSafeDatabaseManager(engine)
    try:
        if settings.database_auto_upgrade or migrations.current(engine) is None:
            migrations.upgrade(engine)
        migrations.check(engine)
        yield db
    finally:
        db.close()


def make_store(settings: Settings, db: ThreadSafeDatabaseManager, answers: CachedAnswers | None = None) -> SqlStore:
    """The store of runs, with the record writer of every workflow and that of the answers that are kept."""
    writers = {KIND: insert_node_facts, CACHED_ANSWERS: (answers or make_answers(settings, db)).write}
    return SqlStore(db, writers, keep_payloads=settings.keep_payloads)


def make_answers(settings: Settings, db: ThreadSafeDatabaseManager) -> CachedAnswers:
    """The table of kept answers, within its bound."""
    return CachedAnswers(db, settings.cache_max_mb * _MEGABYTE)


def choose_mode(settings: Settings, *, given: ProcessingMode | None = None, sequential: bool = False) -> ModeWish:
    """How items are to be handed to workers, and who says so; ``given`` and ``sequential`` are of the command line."""
    if sequential:
        return ModeWish(Mode.SEQUENTIAL, "--sequential was given")
    if not settings.enable_parallel_processing:
        return ModeWish(Mode.SEQUENTIAL, "ENABLE_PARALLEL_PROCESSING is false")
    wanted = given or settings.processing_mode
    if wanted is ProcessingMode.AUTO:
        return ModeWish(None, "auto: not decided yet")
    return ModeWish(Mode(wanted.value), f"--mode {wanted} was given" if given else f"PROCESSING_MODE is {wanted}")


def make_executor(mode: Mode, settings: Settings, db: ThreadSafeDatabaseManager, *, threads: bool = True) -> Executor:
    """The executor of a mode; without ``threads`` everything is done by the calling one."""
    inner: Executor = SequentialExecutor()
    if threads and mode is not Mode.SEQUENTIAL and (mode is Mode.PARALLEL or settings.max_parallel_nodes > 1):
        _share_memory()
        inner = ThreadsExecutor(settings.max_parallel_nodes, on_thread_end=db.cleanup_session)
    return BatchExecutor(inner, settings.batch_max_items) if mode is Mode.BATCH else inner


def _share_memory() -> None:
    """One arena of glibc's malloc for all threads: with one each, 64 threads leave 12 MB lying in pieces.

    They would gain nothing by their own: nearly all is allocated by the one thread that holds Python's lock.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def choose_provider(settings: Settings) -> Provider:
    """The provider that is asked for, or the first that is configured: azure, openai, else structural.

    Where a model is meant (Azure half configured, a model's name without a key) its provider is chosen all the same:
    it then says what is missing, and nobody takes the structural reading for the model's.
    """
    if settings.llm_provider is not Provider.AUTO:
        return settings.llm_provider
    if settings.azure_openai_endpoint and settings.azure_openai_api_key:
        return Provider.AZURE
    if settings.openai_api_key or settings.openai_base_url:
        return Provider.OPENAI
    if settings.azure_openai_endpoint or settings.azure_openai_api_key or settings.azure_openai_deployment:
        return Provider.AZURE
    return Provider.OPENAI if settings.llm_model else Provider.STRUCTURAL


def make_client(settings: Settings, workers: int) -> ModelClient:
    """The model client of this process.

    Raises:
        BadConfiguration: the provider lacks a setting; the message names it.
    """
    provider = choose_provider(settings)
    if provider is Provider.STRUCTURAL:
        return StructuralClient()
    if provider is Provider.LOCAL:
        return _local_client(settings, workers)
    from thresher.llm.providers.openai import Connections, OpenAIClient  # noqa: PLC0415 # slow to import

    azure = provider is Provider.AZURE
    model = settings.azure_openai_deployment if azure else settings.llm_model
    return OpenAIClient(
        model or DEFAULT_MODEL,
        _azure_server(settings) if azure else _openai_server(settings),
        connections=Connections(workers=workers, timeout=settings.request_timeout_seconds),
        prices=Prices.load(settings.prices_file),
    )


def _local_client(settings: Settings, workers: int) -> ModelClient:
    from thresher.llm.local_server import LocalModel  # noqa: PLC0415 # slow to import
    from thresher.llm.providers.local import LocalClient  # noqa: PLC0415 # slow to import

    model = LocalModel(gguf=settings.local_model_gguf, port=0, slots=workers)
    return LocalClient(model, timeout=settings.request_timeout_seconds)


def with_local_defaults(settings: Settings) -> Settings:
    """Where the local model reads: what suits a model of 135 million parameters on one core, unless it was set.

    Few requests at once, small subtrees and short answers (it repeats itself without bounds), patience.
    """
    if choose_provider(settings) is not Provider.LOCAL:
        return settings
    suited: dict[str, int | float] = {
        "max_parallel_nodes": 2,
        "max_subtree_bytes": 6_144,
        "max_output_tokens": 600,
        "answer_max_fields": 6,
        "answer_max_value_length": 64,
        "request_timeout_seconds": 300.0,
    }
    return settings.model_copy(
        update={name: value for name, value in suited.items() if name not in settings.model_fields_set}
    )


def _openai_server(settings: Settings) -> OpenAIServer:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    if not key and not settings.openai_base_url:
        raise BadConfiguration(
            "The provider openai needs a key: set OPENAI_API_KEY (or OPENAI_BASE_URL for a server without keys), "
            "or use --provider structural, which needs none."
        )
    return OpenAIServer(api_key=key or None, base_url=settings.openai_base_url or None)


def _azure_server(settings: Settings) -> AzureServer:
    wanted = {
        "AZURE_OPENAI_ENDPOINT": settings.azure_openai_endpoint,
        "AZURE_OPENAI_API_KEY": settings.azure_openai_api_key and settings.azure_openai_api_key.get_secret_value(),
        "AZURE_OPENAI_DEPLOYMENT": settings.azure_openai_deployment,
    }
    missing = [name for name, value in wanted.items() if not value]
    if missing:
        names = " and ".join(missing)
        raise BadConfiguration(f"The provider azure needs {names}: set what is missing, or use --provider structural.")
    endpoint, key, deployment = (value or "" for value in wanted.values())
    return AzureServer(endpoint, key, deployment, settings.openai_api_version)


def make_reader(
    settings: Settings,
    client: ModelClient | None = None,
    run: Run | None = None,
    configuration: NodeConfiguration | None = None,
    ladder: Ladder | None = None,
) -> NodeReader:
    """A reader of subtrees; ``run`` and ``configuration`` tell the model about the document and the node.

    ``ladder`` asks the model: anew for every subtree, unless it is a ``Discovery.cache``.
    """
    details = run.details if run is not None else {}
    document = {
        "message": details.get("message_root"),
        "version": details.get("spec_version"),
        "sender": details.get("sender"),
    }
    return NodeReader(
        client or make_client(settings, settings.max_parallel_nodes),
        masker=Masker() if settings.mask_pii else None,
        bounds=AnswerBounds(
            max_tokens=settings.max_output_tokens,
            is_small_model=choose_provider(settings) is Provider.LOCAL,
            max_fields=settings.answer_max_fields,
            max_value_length=settings.answer_max_value_length,
            temperature=settings.temperature,
        ),
        document={name: str(value) if value else None for name, value in document.items()},
        configuration=configuration,
        ladder=ladder,
    )


def make_limits(settings: Settings) -> Limits:
    """The bounds on documents and subtrees."""
    return Limits(
        max_document_bytes=settings.max_document_bytes,
        max_depth=settings.max_depth,
        max_subtree_bytes=settings.max_subtree_bytes,
    )


def make_resources(settings: Settings, listeners: Sequence[ResourceListener] = ()) -> Resources:
    """The gates before models, shared by all runs of this process."""
    breaker = BreakerPolicy(
        failures=settings.breaker_failures,
        open_seconds=settings.breaker_open_seconds,
        patience=settings.resource_patience_seconds,
    )
    return Resources(
        default=ResourceLimits(
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            concurrency=settings.max_parallel_nodes,
            is_adaptive=settings.adaptive_concurrency,
            breaker=breaker,
        ),
        listeners=(ResourceLog(), *listeners),
    )


def make_runner_options(settings: Settings) -> RunnerOptions:
    """Retry, leases and the rest of the engine's numbers."""
    retry = RetryPolicy(
        max_retries=settings.max_retries, base=settings.retry_base_seconds, cap=settings.retry_max_seconds
    )
    return RunnerOptions(retry=retry, lease=settings.lease_seconds)


Watch = Callable[[Resources, Callable[[], int]], None]


@dataclass(frozen=True)
class Observers:
    """Who looks on besides logs and display: metrics, spans. ``watches`` are told what there is to look at."""

    of_runs: tuple[Listener, ...] = ()
    of_resources: tuple[ResourceListener, ...] = ()
    watches: tuple[Watch, ...] = ()

    def __add__(self, other: Observers) -> Observers:
        return Observers(
            self.of_runs + other.of_runs, self.of_resources + other.of_resources, self.watches + other.watches
        )


@contextmanager
def open_observers(settings: Settings) -> Iterator[Observers]:
    """Metrics and spans, where they are asked for; until the end of the process's work.

    Raises:
        BadConfiguration: the port of the metrics is taken, or what makes spans is not installed.
    """
    observers = Observers()
    with ExitStack() as closing:
        if settings.metrics_port is not None:
            observers += closing.enter_context(_metrics(settings.metrics_host, settings.metrics_port))
        if settings.otel_exporter_otlp_endpoint:
            observers += closing.enter_context(_spans(settings.otel_exporter_otlp_endpoint))
        yield observers


@contextmanager
def _metrics(host: str, port: int) -> Iterator[Observers]:
    from thresher.integrations.metrics import Metrics, served  # noqa: PLC0415 # few look

    metrics = Metrics()
    with served(metrics.registry, host, port):
        yield Observers((metrics.on_run,), (metrics.on_resource,), (metrics.watch,))


@contextmanager
def _spans(endpoint: str) -> Iterator[Observers]:
    try:
        from thresher.integrations.tracing import exported  # noqa: PLC0415 # an extra, and slow to import
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise BadConfiguration(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: "
            "`pip install thresher[otel]` installs it."
        ) from error
    with exported(endpoint) as tracing:
        yield Observers((tracing.on_run,), (tracing.on_resource,))


class Shared:
    """What all runs of a process share: the store, kept answers, who asks, and the gates before models."""

    def __init__(
        self, settings: Settings, db: ThreadSafeDatabaseManager, closing: ExitStack, observers: Observers
    ) -> None:
        self.answers = make_answers(settings, db)
        self.store = make_store(settings, db, self.answers)
        self.files = SourceFiles(settings.data_dir / "sources")
        self.ladder = AnswerLadder(Hedge(settings.hedge_percentile / 100) if settings.hedge_requests else None)
        self.cache = AnswerCache(self.answers, self.ladder)
        self.resources = make_resources(settings, observers.of_resources)
        self._closing = closing
        self._lock = Lock()  # protects all below
        self._clients: dict[tuple[Provider, str | None], ModelClient] = {}
        self._runners: WeakSet[Runner] = WeakSet()
        for watch in observers.watches:
            watch(self.resources, self._in_hand)

    def client(self, settings: Settings) -> ModelClient:
        """The client of a reader, made at first use and closed with the database.

        Raises:
            BadConfiguration: the provider lacks a setting; the message names it.
        """
        provider = choose_provider(settings)
        model = settings.azure_openai_deployment if provider is Provider.AZURE else settings.llm_model
        with self._lock:
            if (provider, model) not in self._clients:
                client = self._clients[provider, model] = make_client(settings, settings.max_parallel_nodes)
                self._closing.callback(client.close)
            return self._clients[provider, model]

    def runner(self, workflow: Workflow, settings: Settings) -> Runner:
        """A runner that shares the store and the gates."""
        runner = Runner(self.store, workflow, make_runner_options(settings), self.resources)
        with self._lock:
            self._runners.add(runner)
        return runner

    def _in_hand(self) -> int:
        with self._lock:
            runners = tuple(self._runners)
        return sum(runner.in_hand for runner in runners)

    def locate(self, run: Run) -> Path:
        """Where the document of a run lies: in the data folder, or where it lay when a command line read it.

        Raises:
            NotFound: it is no longer kept.
        """
        digest = run.source.get("sha256")
        return path_of(run) if digest is None else self.files.find(str(digest), str(run.source["name"]))


@dataclass(frozen=True)
class Discovery:
    """Everything that one process needs to run discoveries on an open database."""

    settings: Settings
    db: ThreadSafeDatabaseManager
    shared: Shared
    observers: Observers = field(default_factory=Observers)

    @property
    def store(self) -> SqlStore:
        """The store of runs."""
        return self.shared.store

    @property
    def answers(self) -> CachedAnswers:
        """The table of kept answers, closed with the database."""
        return self.shared.answers

    @property
    def cache(self) -> AnswerCache | None:
        """Answers that are asked for once; None where it is switched off, or where asking costs nothing."""
        is_free = choose_provider(self.settings) is Provider.STRUCTURAL
        return None if is_free or not self.settings.cache_answers else self.shared.cache

    @property
    def ladder(self) -> AnswerLadder:
        """Who asks the model, for all runs of this process."""
        return self.shared.ladder

    @property
    def client(self) -> ModelClient:
        """The model client, made at first use and closed with the database."""
        return self.shared.client(self.settings)

    @cached_property
    def workflow(self) -> DiscoveryWorkflow:
        """The workflow, with the reader that these settings say."""

        def reader(run: Run, configuration: NodeConfiguration | None) -> NodeReader:
            return make_reader(self.settings, self.client, run, configuration, self.cache or self.ladder)

        limits = make_batch_limits(self.settings)
        return DiscoveryWorkflow(reader, limits, self.shared.locate, partial(stored_nodes, self.db))

    @cached_property
    def runner(self) -> Runner:
        """The runner of discoveries."""
        return self.shared.runner(self.workflow, self.settings)

    def executor(self, mode: Mode) -> Executor:
        """A fresh executor for one session."""
        return make_executor(mode, self.settings, self.db)

    def modes(self, wish: ModeWish) -> Modes:
        """The modes of one session, as wished, each falling back to the next where it cannot work."""

        def make(mode: Mode, threads: bool) -> Executor:  # noqa: FBT001 # as Modes calls it
            return make_executor(mode, self.settings, self.db, threads=threads)

        return Modes(wish, make)

    def read_as(self, run: Run) -> Discovery:
        """The same with the reader that a run began with, so that its facts have one origin."""
        return replace(self, settings=with_local_defaults(_with_reader_of(self.settings, run)))


def _with_reader_of(settings: Settings, run: Run) -> Settings:
    if run.provider is None:
        return settings
    provider = Provider(run.provider)
    model = {Provider.OPENAI: "llm_model", Provider.AZURE: "azure_openai_deployment"}.get(provider)
    kept: dict[str, object] = {"llm_provider": provider, **({model: run.model} if model else {})}
    return settings.model_copy(update=kept)


@contextmanager
def open_discovery(settings: Settings) -> Iterator[Discovery]:
    """Opens the database and closes database and client at the end."""
    with open_observers(settings) as observers, open_database(settings) as db, ExitStack() as closing:
        settings = with_local_defaults(settings)
        yield Discovery(settings, db, Shared(settings, db, closing, observers), observers)


# -- the server ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bells:
    """Rung by who has left work for one of the server's loops, so that it looks at once."""

    batches: Event = field(default_factory=Event)
    deliveries: Event = field(default_factory=Event)

    def ring_all(self) -> None:
        """A run has come to its end: its batch may have, and somebody may be waiting to be told."""
        self.batches.set()
        self.deliveries.set()


@dataclass(frozen=True)
class Service:
    """Everything that one server process needs: what the API and the pages are made of."""

    discovery: Discovery
    queue: SqlRunQueue
    host: RunHost
    feed: ProgressFeed
    metrics: Metrics
    bells: Bells

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return self.discovery.settings

    @property
    def db(self) -> ThreadSafeDatabaseManager:
        """The database, for the functions of ``persistence.repositories``."""
        return self.discovery.db

    @property
    def store(self) -> SqlStore:
        """The store of runs."""
        return self.discovery.store

    @property
    def files(self) -> SourceFiles:
        """The documents that are kept."""
        return self.discovery.shared.files


@contextmanager
def open_service(settings: Settings) -> Iterator[Service]:
    """Opens all that a server needs; the host of runs is started and stopped by who serves.

    Raises:
        DatabaseUnusable: the database cannot be opened, or is of another version.
        BadConfiguration: the data folder cannot be written, or EMAIL_URL is no mail server.
    """
    from thresher.integrations.mail import check_mail_server  # noqa: PLC0415 # servers only
    from thresher.integrations.metrics import Metrics  # noqa: PLC0415 # few look

    check_mail_server(None if settings.email_url is None else settings.email_url.get_secret_value())
    metrics = Metrics()
    own = Observers((metrics.on_run,), (metrics.on_resource,), (metrics.watch,))
    with open_observers(settings) as observers, open_database(settings) as db, ExitStack() as closing:
        settings, everyone = with_local_defaults(settings), observers + own
        discovery = Discovery(settings, db, Shared(settings, db, closing, everyone), everyone)
        discovery.shared.files.make_ready()
        queue, feed = SqlRunQueue(db), ProgressFeed()
        options = HostOptions(
            settings.max_concurrent_runs, settings.lease_seconds, grace=settings.shutdown_grace_seconds
        )
        bells = Bells()
        host = RunHost(queue, HostedDiscoveries(discovery, feed), feed, options, on_end=bells.ring_all)
        yield Service(discovery, queue, host, feed, metrics, bells)


@dataclass(frozen=True)
class HostedDiscoveries:
    """What a host does with a run: looks at its document first where nobody has, then works on it."""

    discovery: Discovery
    feed: ProgressFeed

    def __call__(self, run_id: str, listeners: Sequence[Listener], control: RunControl) -> RunReport:
        """One session of a run; see ``engine.host.Work``."""
        store = self.discovery.store
        run = store.get_run(run_id)
        try:
            discovery = self._made_ready(run)
        except (BadInput, FatalError) as error:
            report = replace(report_of(store, run), status=RunStatus.FAILED, error=failure_of(error))
            store.end_run(report)
            for listener in listeners:
                listener(RunFinished(report))
            return report
        modes = discovery.modes(_wish(run, discovery.settings))
        self.feed.describe(run_id, self._background(discovery, run))
        return discovery.runner.run(run_id, modes, (*listeners, *discovery.observers.of_runs), control)

    def _background(self, discovery: Discovery, run: Run) -> Background:
        """What onlookers are to know besides the events: of a run that goes on, what it has come to before."""
        runner, resource = discovery.runner, discovery.client.resource
        if run.started_at is None:
            return Background(resource=resource, in_hand=lambda: runner.in_hand)
        discovery.store.recover(run.run_id, is_dead, runner.options.max_losses)
        earlier, facts = discovery.store.totals(run.run_id), fact_counts(discovery.db, run.run_id).facts
        return Background(earlier, facts, resource, lambda: runner.in_hand)

    def _made_ready(self, run: Run) -> Discovery:
        """The document is looked at, and the model answers.

        Raises:
            BadInput, FatalError: one of them cannot be used.
        """
        discovery = self.discovery.read_as(run)
        if not discovery.workflow.is_settled(run):
            discovery.store.settle_run(run.run_id, discovery.workflow.settle(run))
        discovery.client.check()
        return discovery


def _wish(run: Run, settings: Settings) -> ModeWish:
    """The mode that a run was asked to have, else what the settings say."""
    wanted = run.options.get("mode")
    if wanted is None or not settings.enable_parallel_processing:
        return choose_mode(settings)
    mode = ProcessingMode(str(wanted))
    return ModeWish(None if mode is ProcessingMode.AUTO else Mode(mode.value), f"{mode} was asked for")


# -- dry runs -----------------------------------------------------------------------------------------------


def make_batch_limits(settings: Settings) -> BatchLimits:
    """How much goes into one request of batch mode."""
    return BatchLimits(settings.batch_max_items, settings.batch_max_tokens)


def make_silent_client(settings: Settings) -> ModelClient:
    """Who would be asked, as far as prompts, prices and kept answers depend on it; needs no key.

    Raises:
        BadConfiguration: the local model's file cannot be used.
    """
    provider = choose_provider(settings)
    if provider is Provider.STRUCTURAL:
        return StructuralClient()
    if provider is Provider.LOCAL:
        from thresher.llm.local_server import find_gguf  # noqa: PLC0415 # slow to import

        name = find_gguf(settings.local_model_gguf).stem
        free = Prices.free().of(name)
        return SilentClient(provider.value, name, free, leaves_machine=False, takes_batches=False)
    chosen = settings.azure_openai_deployment if provider is Provider.AZURE else settings.llm_model
    name = chosen or DEFAULT_MODEL
    return SilentClient(provider.value, name, Prices.load(settings.prices_file).of(name))


@contextmanager
def look_into_database(settings: Settings) -> Iterator[ThreadSafeDatabaseManager | None]:
    """The database of ``DATABASE_URL`` to read from; None where there is none yet, and none is made.

    Raises:
        DatabaseUnusable: it cannot be opened, or is of another version.
    """
    if is_missing(settings.database_url):
        yield None
        return
    engine = create_engine(settings.database_url)
    db = ThreadSafeDatabaseManager(engine)
    try:
        if migrations.current(engine) is None:
            yield None
        else:
            migrations.check(engine)
            yield db
    finally:
        db.close()


@dataclass(frozen=True)
class Rehearsal:
    """Everything for a dry run: the prompts of a discovery without anybody to answer them."""

    settings: Settings
    client: ModelClient
    db: ThreadSafeDatabaseManager | None
    answers: CachedAnswers | None

    def estimate(self, new: NewRun, wish: ModeWish) -> Estimate:
        """What a run would take, from its prompts and from what earlier runs of the same model took.

        Raises:
            BadInput: the document cannot be read to its end.
        """
        settings, client, run = self.settings, self.client, _unstored(new)
        workflow = DiscoveryWorkflow(self._reader, make_batch_limits(settings))
        if client.resource is None:  # nobody is asked
            size = measure((spec, None) for spec in workflow.plan(run))
            return estimate(size, None, client.price, Pace(settings.max_parallel_nodes))
        mode = wish.mode or _mode_of(workflow, run)
        workers = 1 if mode is Mode.SEQUENTIAL else settings.max_parallel_nodes
        if mode is Mode.BATCH and workflow.batch_obstacle(run) is None:
            window = 3 * workers * settings.batch_max_items  # in hand, and queued before workers (ThreadsExecutor)
            size = measure_groups(workflow.prompt_groups(run, window), self._known())
        else:
            size = measure(workflow.prompts(run), self._known())
        learned = experience_with(self.db, client.provider, client.model) if self.db is not None else None
        pace = Pace(workers, settings.requests_per_minute, settings.tokens_per_minute)
        return estimate(size, learned, client.price, pace)

    def _reader(self, run: Run, configuration: NodeConfiguration | None) -> NodeReader:
        return make_reader(self.settings, self.client, run, configuration)

    def _known(self) -> KnownAnswers | None:
        """The answers that would not be paid again; None where the cache is switched off."""
        if not self.settings.cache_answers:
            return None
        client, answers = self.client, self.answers
        if answers is None or not answers.holds_any(client.provider, client.model):
            return KnownAnswers(lambda request: key_of(client, request), lambda _key: False)
        return KnownAnswers(lambda request: key_of(client, request), lambda key: answers.find(key) is not None)


def _mode_of(workflow: DiscoveryWorkflow, run: Run) -> Mode:
    """What ``auto`` comes to."""
    beginning = list(islice(workflow.plan(run), ENOUGH_TO_DECIDE))
    items = sum(spec.skip_reason is None for spec in beginning)
    are_all = len(beginning) < ENOUGH_TO_DECIDE
    return decide(items, are_all=are_all, obstacle=workflow.batch_obstacle(run)).mode


def _unstored(new: NewRun) -> Run:
    """A run as it would be, for planning only."""
    now = datetime.now(UTC)
    return Run(
        run_id="dry-run",
        status=RunStatus.PENDING,
        report=None,
        error=None,
        planned=0,
        planning_complete=False,
        elapsed_seconds=0.0,
        created_at=now,
        started_at=None,
        finished_at=None,
        **{name: getattr(new, name) for name in new.__dataclass_fields__},
    )


@contextmanager
def open_rehearsal(settings: Settings) -> Iterator[Rehearsal]:
    """Looks into the database where there is one, and closes it at the end."""
    with look_into_database(settings) as db:
        answers = None if db is None else make_answers(settings, db)
        settings = with_local_defaults(settings)
        yield Rehearsal(settings, make_silent_client(settings), db, answers)
