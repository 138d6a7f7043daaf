"""The tables, as SQLAlchemy models; ``alembic/`` builds the same, which a test compares."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from thresher.core.access import Role
from thresher.core.jobs import ChannelKind, DeliveryEvent, DeliveryStatus, DocumentStatus
from thresher.engine.budget import Unit
from thresher.engine.work import AttemptStatus, ItemStatus, Mode, Priority, RunRequest, RunStatus


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An instant: aware in, aware and in UTC out, on SQLite too (which stores it without a zone, in UTC)."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Converts to UTC; refuses a time without a zone, which would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Gives the zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class ForeignText(sa.TypeDecorator[str]):
    """Text from outside: NUL and unpaired surrogates, which databases refuse, become U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 - same for all
        """Replaces what cannot be stored."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Base(DeclarativeBase):
    """All tables, with names of constraints that are the same on every database."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain dict
        str: sa.Text,
        datetime: UtcDateTime,
        dict[str, Any]: sa.JSON(none_as_null=True),
        list[Any]: sa.JSON(none_as_null=True),
        bytes: sa.LargeBinary,
    }


# SQLite numbers rows by itself only where the type is exactly INTEGER.
_RowId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


_FILLED = "filled"  # what a partial index holds, in its info


def _one_of(column: str, values: type[StrEnum]) -> sa.CheckConstraint:
    listed = ", ".join(f"'{value}'" for value in values)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=column)


def _partial_index(*columns: str) -> sa.Index:
    """An index of the few rows whose last column is not null."""
    filled = sa.text(f"{columns[-1]} IS NOT NULL")
    return sa.Index(None, *columns, sqlite_where=filled, info={_FILLED: filled})


@sa.event.listens_for(Base.metadata, "before_create")
def _say_it_to_postgres(metadata: sa.MetaData, connection: sa.Connection, **_: object) -> None:
    """The same for PostgreSQL; where an index is made, that would import its dialect in every process (2 MB)."""
    if connection.dialect.name == "postgresql":
        for index in (index for table in metadata.tables.values() for index in table.indexes):
            if _FILLED in index.info:
                index.dialect_kwargs["postgresql_where"] = index.info[_FILLED]


class RunRow(Base):
    """A run. ``requested``: what it was asked to do while it runs (pause, cancel). ``priority``: 0 goes first.

    ``budget``: an amount and its unit, as ``engine.budget.Budget`` writes it.
    """

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    workspace: Mapped[str]
    status: Mapped[str]
    mode: Mapped[str]
    mode_reason: Mapped[str]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    source: Mapped[dict[str, Any]]
    options: Mapped[dict[str, Any]]
    details: Mapped[dict[str, Any]]
    report: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    planned: Mapped[int]
    planning_complete: Mapped[bool]
    elapsed_seconds: Mapped[float]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    requested: Mapped[str | None]
    priority: Mapped[int] = mapped_column(server_default=sa.text("1"))
    fallbacks: Mapped[list[Any] | None]
    budget: Mapped[str | None]
    source_id: Mapped[str | None] = mapped_column(sa.ForeignKey("sources.id", ondelete="SET NULL"))

    __table_args__ = (
        _one_of("status", RunStatus),
        _one_of("mode", Mode),
        _one_of("requested", RunRequest),
        sa.CheckConstraint(f"priority BETWEEN {min(Priority):d} AND {max(Priority):d}", name="priority"),
        sa.Index(None, "workspace", "id"),
        sa.Index(None, "workspace", "status", "id"),
        sa.Index(None, "workspace", "elapsed_seconds", "id"),
        sa.Index(None, "workspace", "finished_at"),
        _partial_index("source_id"),
    )


class QueuedRunRow(Base):
    """A run that a server is to work on, until it has ended or was stopped by somebody.

    ``owner`` and ``lease_until``: the server that does, and until when others leave it alone.
    """

    __tablename__ = "queued_runs"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    queued_at: Mapped[datetime]
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name="lease"),
        sa.Index(None, "queued_at"),
    )


class BudgetShareRow(Base):
    """What one session of a run has spent of its budget and holds of it, in atoms of ``unit`` (``engine.budget``).

    ``lease_until`` None: the share is closed. It stays until all of the run are, so that their sum tells what is spent.
    """

    __tablename__ = "budget_shares"

    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True)
    owner: Mapped[str] = mapped_column(primary_key=True)
    unit: Mapped[str]
    spent: Mapped[int] = mapped_column(sa.BigInteger)
    held: Mapped[int] = mapped_column(sa.BigInteger)
    lease_until: Mapped[datetime | None]

    __table_args__ = (
        _one_of("unit", Unit),
        sa.CheckConstraint("lease_until IS NOT NULL OR held = 0", name="held"),
    )


class SourceRow(Base):
    """A document that is kept: its bytes lie once in the data folder, under their SHA-256 in hexadecimal digits.

    ``used_at``: when it was uploaded, or a run of it began, for the last time.
    """

    __tablename__ = "sources"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    sha256: Mapped[str]
    name: Mapped[str] = mapped_column(ForeignText)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]

    __table_args__ = (
        sa.UniqueConstraint("workspace", "sha256"),
        sa.Index(None, "workspace", "id"),
        sa.Index(None, "sha256"),
        sa.Index(None, "used_at"),
    )


class ApiKeyRow(Base):
    """A key to one workspace: of the secret only its SHA-256 is kept, and its beginning, to tell keys apart.

    ``requests_per_minute`` and ``max_upload_bytes`` None: as the server is set.
    """

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    name: Mapped[str]
    role: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    beginning: Mapped[str]
    requests_per_minute: Mapped[int | None]
    max_upload_bytes: Mapped[int | None] = mapped_column(sa.BigInteger)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("role", Role),
        sa.Index(None, "workspace", "id"),
    )


class ItemRow(Base):
    """An item. ``started_at`` is when its newest attempt was claimed; ``next_attempt_at`` None means: at once.

    ``losses``: how many processes may have ended in it. ``begun``: the newest attempt of which it was written that work
    on it began; that is only written of items that were lost before.
    """

    __tablename__ = "items"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"))
    key: Mapped[str]
    position: Mapped[str]
    parent_id: Mapped[int | None] = mapped_column(_RowId, sa.ForeignKey("items.id", ondelete="CASCADE"))
    stage: Mapped[str]
    status: Mapped[str]
    attempts_started: Mapped[int]
    failures: Mapped[int]
    losses: Mapped[int]
    begun: Mapped[int | None]
    next_attempt_at: Mapped[datetime | None]
    lease_owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    skip_reason: Mapped[str | None]
    error_class: Mapped[str | None]
    error_message: Mapped[str | None] = mapped_column(ForeignText)
    attributes: Mapped[dict[str, Any]]
    result: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))

    __table_args__ = (
        sa.UniqueConstraint("run_id", "key"),
        _one_of("status", ItemStatus),
        sa.CheckConstraint("(status = 'running') = (lease_owner IS NOT NULL)", name="lease"),
        sa.Index(None, "run_id", "status", "position"),
        sa.Index(None, "run_id", "position"),
        # Few rows have these at a time, so the indexes stay small.
        _partial_index("lease_owner"),
        _partial_index("parent_id"),
        _partial_index("run_id", "next_attempt_at"),
    )


class ItemPayloadRow(Base):
    """What an open item is processed from. A table of its own: what finished items leave is used again, not lost."""

    __tablename__ = "item_payloads"

    item_id: Mapped[int] = mapped_column(_RowId, sa.ForeignKey("items.id", ondelete="CASCADE"), primary_key=True)
    payload: Mapped[bytes]


class AttemptRow(Base):
    """One try at an item. ``cost_usd`` None: the price is unknown. ``unsettled_*``: see ``engine.work.Usage``."""

    __tablename__ = "attempts"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"))
    item_id: Mapped[int] = mapped_column(_RowId, sa.ForeignKey("items.id", ondelete="CASCADE"))
    number: Mapped[int]
    status: Mapped[str]
    error_class: Mapped[str | None]
    error_message: Mapped[str | None] = mapped_column(ForeignText)
    raw_answer: Mapped[str | None] = mapped_column(ForeignText)
    started_at: Mapped[datetime]
    duration_seconds: Mapped[float]
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    cost_usd: Mapped[float | None]
    cache_hits: Mapped[int] = mapped_column(server_default=sa.text("0"))
    prompt_bytes: Mapped[int] = mapped_column(server_default=sa.text("0"))
    unsettled_tokens: Mapped[int] = mapped_column(server_default=sa.text("0"))
    unsettled_cost_usd: Mapped[float] = mapped_column(server_default=sa.text("0"))

    __table_args__ = (
        sa.UniqueConstraint("item_id", "number"),
        _one_of("status", AttemptStatus),
        sa.Index(None, "run_id"),
    )


class CachedAnswerRow(Base):
    """A model's answer, kept under a hash of all that it depends on. Tokens and cost: what it took to get it.

    ``uses``: how often it was given instead of being asked for. ``size_bytes``: what the row takes, about.
    """

    __tablename__ = "cached_answers"

    key: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    model: Mapped[str]
    answer: Mapped[str] = mapped_column(ForeignText)
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cost_usd: Mapped[float | None]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    uses: Mapped[int]

    __table_args__ = (
        sa.Index(None, "used_at", "size_bytes"),  # covers the sum of all sizes
        sa.Index(None, "provider", "model"),
    )


class NodeFactRow(Base):
    """A fact of XML discovery. ``position`` is its item's, repeated here for the order of the document."""

    __tablename__ = "node_facts"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    run_id: Mapped[str] = mapped_column(sa.ForeignKey("runs.id", ondelete="CASCADE"))
    item_id: Mapped[int] = mapped_column(_RowId, sa.ForeignKey("items.id", ondelete="CASCADE"))
    ordinal: Mapped[int]
    position: Mapped[str]
    node_type: Mapped[str] = mapped_column(ForeignText)
    node_ordinal: Mapped[int | None]
    section_path: Mapped[str] = mapped_column(ForeignText)
    extractor: Mapped[str]
    confidence: Mapped[float | None]
    pii_masked: Mapped[bool]
    fields: Mapped[list[Any]]
    refs: Mapped[list[Any]]
    record: Mapped[Any | None] = mapped_column(sa.JSON(none_as_null=True))
    fields_total: Mapped[int]
    fields_grounded: Mapped[int]

    __table_args__ = (
        sa.UniqueConstraint("item_id", "ordinal"),
        sa.Index(None, "run_id", "position", "item_id", "ordinal"),
    )


class NodeConfigurationRow(Base):
    """Which path is extracted, and how. Empty ``message_root``, ``spec_version`` and ``sender`` mean: any."""

    __tablename__ = "node_configurations"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    workspace: Mapped[str]
    message_root: Mapped[str]
    spec_version: Mapped[str]
    sender: Mapped[str]
    path: Mapped[str]
    instructions: Mapped[str | None]
    record_schema: Mapped[dict[str, Any] | None]
    enabled: Mapped[bool]

    __table_args__ = (
        sa.UniqueConstraint(
            "workspace", "message_root", "spec_version", "sender", "path", name="uq_node_configurations_target"
        ),
    )


def _reference(target: str, action: str) -> sa.ForeignKey:
    return sa.ForeignKey(target, ondelete=action)


class TemplateRow(Base):
    """A named set of options."""

    __tablename__ = "templates"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    name: Mapped[str] = mapped_column(ForeignText)
    description: Mapped[str | None] = mapped_column(ForeignText)
    options: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    __table_args__ = (sa.UniqueConstraint("workspace", "name"), sa.Index(None, "workspace", "id"))


class ScheduleRow(Base):
    """When a batch is begun again and again. ``next_at`` None: not any more, or it is paused."""

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    name: Mapped[str] = mapped_column(ForeignText)
    expression: Mapped[str]
    time_zone: Mapped[str]
    template_id: Mapped[str | None] = mapped_column(_reference("templates.id", "RESTRICT"))
    is_paused: Mapped[bool]
    next_at: Mapped[datetime | None]
    fired_at: Mapped[datetime | None]
    created_at: Mapped[datetime]

    __table_args__ = (sa.Index(None, "workspace", "id"), _partial_index("next_at"), _partial_index("template_id"))


class ScheduledDocumentRow(Base):
    """A document that a schedule has read: at an address, or one that is kept."""

    __tablename__ = "scheduled_documents"

    schedule_id: Mapped[str] = mapped_column(_reference("schedules.id", "CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    url: Mapped[str | None] = mapped_column(ForeignText)
    name: Mapped[str] = mapped_column(ForeignText)
    source_id: Mapped[str | None] = mapped_column(_reference("sources.id", "SET NULL"))

    __table_args__ = (_partial_index("source_id"),)


class BatchRow(Base):
    """Many documents that are read in the same way. ``options``: of each run; ``max_bytes``: of a fetched document.

    ``finished_at``: when all that is to be done of it had ended.
    """

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    name: Mapped[str | None] = mapped_column(ForeignText)
    template: Mapped[str | None] = mapped_column(ForeignText)
    priority: Mapped[int]
    options: Mapped[dict[str, Any]]
    max_bytes: Mapped[int] = mapped_column(sa.BigInteger)
    requested: Mapped[str | None]
    schedule_id: Mapped[str | None] = mapped_column(_reference("schedules.id", "SET NULL"))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("requested", RunRequest),
        sa.Index(None, "workspace", "id"),
        sa.Index(None, "finished_at"),
        _partial_index("schedule_id"),
    )


class BatchDocumentRow(Base):
    """A document of a batch; ``number`` counts from 1. ``duplicate_of``: the number of the one it is equal to."""

    __tablename__ = "batch_documents"

    batch_id: Mapped[str] = mapped_column(_reference("batches.id", "CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    url: Mapped[str | None] = mapped_column(ForeignText)
    name: Mapped[str] = mapped_column(ForeignText)
    source_id: Mapped[str | None] = mapped_column(_reference("sources.id", "SET NULL"))
    run_id: Mapped[str | None] = mapped_column(_reference("runs.id", "SET NULL"))
    duplicate_of: Mapped[int | None]
    status: Mapped[str]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime | None]
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    error_class: Mapped[str | None]
    error_message: Mapped[str | None] = mapped_column(ForeignText)

    __table_args__ = (
        _one_of("status", DocumentStatus),
        sa.CheckConstraint("(status = 'fetching') = (owner IS NOT NULL)", name="lease"),
        sa.Index(None, "status"),
        _partial_index("source_id"),
        _partial_index("run_id"),
    )


class ChannelRow(Base):
    """How somebody is told. ``secret``: signs webhooks. ``is_always``: of all runs and batches of the workspace."""

    __tablename__ = "channels"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    name: Mapped[str] = mapped_column(ForeignText)
    kind: Mapped[str]
    target: Mapped[str]
    secret: Mapped[str | None]
    is_always: Mapped[bool]
    is_enabled: Mapped[bool]
    created_at: Mapped[datetime]

    __table_args__ = (
        _one_of("kind", ChannelKind),
        sa.UniqueConstraint("workspace", "name"),
        sa.Index(None, "workspace", "id"),
    )


class DeliveryRow(Base):
    """A notification. ``payload``: what is told, from the first try on. ``http_status``: of the last answer."""

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    workspace: Mapped[str]
    channel_id: Mapped[str] = mapped_column(_reference("channels.id", "CASCADE"))
    event: Mapped[str]
    run_id: Mapped[str | None] = mapped_column(_reference("runs.id", "CASCADE"))
    batch_id: Mapped[str | None] = mapped_column(_reference("batches.id", "CASCADE"))
    status: Mapped[str]
    attempts: Mapped[int]
    next_attempt_at: Mapped[datetime | None]
    owner: Mapped[str | None]
    lease_until: Mapped[datetime | None]
    payload: Mapped[dict[str, Any] | None]
    http_status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(ForeignText)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        _one_of("event", DeliveryEvent),
        _one_of("status", DeliveryStatus),
        sa.CheckConstraint("(status = 'sending') = (owner IS NOT NULL)", name="lease"),
        sa.Index(None, "workspace", "id"),
        sa.Index(None, "status", "next_attempt_at"),
        sa.Index(None, "channel_id"),
        _partial_index("run_id"),
        _partial_index("batch_id"),
    )
