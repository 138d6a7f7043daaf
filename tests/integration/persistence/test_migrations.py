"""Migrations: the same tables as the models, forwards and backwards, by one process of many."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from thresher.core.errors import DatabaseUnusable
from thresher.engine.work import AttemptRecord, AttemptStatus, Completion, ItemSpec, ItemStatus, Mode, NewRun
from thresher.persistence import migrations
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.tables import Base

ROOT = Path(__file__).parents[3]


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def written(index: Any) -> str:
    """The condition of a partial index is an object that only compares as text."""
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def tables(engine: sa.Engine) -> dict[str, Any]:
    """Everything the database says of its tables, without the order that it keeps."""
    inspector = sa.inspect(engine)
    return {
        name: {
            "columns": {c["name"]: (str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(name)},
            "primary key": inspector.get_pk_constraint(name),
            "foreign keys": sorted(map(str, inspector.get_foreign_keys(name))),
            "unique": sorted(map(str, inspector.get_unique_constraints(name))),
            "checks": sorted((c["name"] or "", c["sqltext"]) for c in inspector.get_check_constraints(name)),
            "indexes": sorted(written(index) for index in inspector.get_indexes(name)),
        }
        for name in inspector.get_table_names()
        if name != "alembic_version"
    }


def test_upgrading_an_empty_database_gives_the_tables_of_the_models(engine: sa.Engine) -> None:
    assert migrations.upgrade(engine)
    with engine.connect() as connection:
        differences = compare_metadata(
            MigrationContext.configure(connection, opts={"compare_server_default": True}), Base.metadata
        )
    assert differences == []
    upgraded = tables(engine)
    migrations.downgrade(engine, "base")
    Base.metadata.create_all(engine)
    assert upgraded == tables(engine)
    assert set(upgraded) == {
        "batches",
        "batch_documents",
        "templates",
        "schedules",
        "scheduled_documents",
        "channels",
        "deliveries",
        "runs",
        "items",
        "attempts",
        "item_payloads",
        "node_facts",
        "node_configurations",
        "cached_answers",
        "queued_runs",
        "budget_shares",
        "sources",
        "api_keys",
    }


def test_downgrading_to_nothing_and_upgrading_again_works(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    upgraded = tables(engine)
    migrations.downgrade(engine, "base")
    assert tables(engine) == {}
    assert migrations.current(engine) is None
    assert migrations.upgrade(engine)
    assert tables(engine) == upgraded


def test_a_database_of_the_first_version_keeps_its_runs(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    migrations.downgrade(engine, "0001")
    store = SqlStore(ThreadSafeDatabaseManager(engine), {})
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO runs (id, kind, workspace, status, mode, mode_reason, source, options, details, planned, "
                "planning_complete, elapsed_seconds, created_at) VALUES ('r1', 'k', 'w', 'succeeded', 'parallel', '', "
                "'{}', '{}', '{}', 1, true, 0, '2026-01-01 00:00:00')"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO items (run_id, key, position, stage, status, attempts_started, failures, losses, "
                "created_at, attributes) VALUES "
                "('r1', 'a', '0000000001', '', 'succeeded', 1, 0, 0, '2026-01-01 00:00:00', '{}')"
            )
        )
        connection.execute(
            sa.text(
                "INSERT INTO attempts (run_id, item_id, number, status, started_at, duration_seconds, requests, "
                "prompt_tokens, completion_tokens, cached_tokens) "
                "SELECT run_id, id, 1, 'succeeded', created_at, 1, 1, 7, "
                "8, 0 FROM items"
            )
        )
    with pytest.raises(DatabaseUnusable, match=r"older version \(0001"):
        migrations.check(engine)
    assert migrations.upgrade(engine)
    assert store.get_run("r1").planned == 1
    assert store.counts("r1").succeeded == 1
    assert store.totals("r1").usage.prompt_tokens == 7


def test_open_items_keep_their_payloads_when_these_move_and_nothing_else_is_touched(engine: sa.Engine) -> None:
    migrations.upgrade(engine)
    db = ThreadSafeDatabaseManager(engine)
    store = SqlStore(db, {})
    run = store.create_run(NewRun(kind="k", source={}, options={}, mode=Mode.PARALLEL, mode_reason=""))
    specs = [ItemSpec(key=str(n), position=(n,), payload=f"<{n}/>".encode()) for n in range(3)]
    store.add_items(run.run_id, specs, planned=3)
    (first,) = store.claim(run.run_id, "me", 1, 60)
    done = AttemptRecord(number=1, status=AttemptStatus.SUCCEEDED, started_at=datetime.now(UTC), duration=0.1)
    assert store.finish(Completion(first, ItemStatus.SUCCEEDED, done))
    db.close()
    migrations.downgrade(engine, "0002")
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT payload, status FROM items ORDER BY position")).all()
        attempts = connection.scalar(sa.text("SELECT count(*) FROM attempts"))
    assert [(row[0] and bytes(row[0]), row[1]) for row in rows] == [
        (None, "succeeded"),
        (b"<1/>", "pending"),
        (b"<2/>", "pending"),
    ]
    assert attempts == 1
    migrations.upgrade(engine)
    assert [claim.payload for claim in store.claim(run.run_id, "me", 5, 60)] == [b"<1/>", b"<2/>"]
    assert store.totals(run.run_id).attempts == 1
    db.close()


def test_a_second_upgrade_has_nothing_to_do(engine: sa.Engine) -> None:
    assert migrations.upgrade(engine)
    assert not migrations.upgrade(engine)
    assert migrations.current(engine) == migrations.HEAD
    migrations.check(engine)


def test_a_database_without_tables_says_what_to_do(engine: sa.Engine) -> None:
    with pytest.raises(DatabaseUnusable, match="no tables yet: run `thresher db upgrade`"):
        migrations.check(engine)


def test_an_older_database_says_what_to_do(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations.upgrade(engine)
    head = migrations.HEAD
    monkeypatch.setattr(migrations, "REVISIONS", (*migrations.REVISIONS, "9999"))
    monkeypatch.setattr(migrations, "HEAD", "9999")
    with pytest.raises(DatabaseUnusable, match=rf"older version \({head}, .*run `thresher db upgrade`"):
        migrations.check(engine)


@pytest.mark.parametrize("use", [migrations.check, migrations.upgrade, lambda e: migrations.downgrade(e, "base")])
def test_a_newer_database_is_left_alone(engine: sa.Engine, use: Any) -> None:
    migrations.upgrade(engine)
    before = tables(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'f00d'"))
    with pytest.raises(DatabaseUnusable, match=r"newer version \(f00d\)"):
        use(engine)
    assert tables(engine) == before


def test_an_unknown_revision_cannot_be_downgraded_to(engine: sa.Engine) -> None:
    with pytest.raises(DatabaseUnusable, match="no revision 'nonsense'"):
        migrations.downgrade(engine, "nonsense")


def test_the_list_of_revisions_is_the_folder_of_versions() -> None:
    scripts = ScriptDirectory(str(migrations.scripts()))
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(migrations.REVISIONS)
    assert scripts.get_heads() == [migrations.HEAD]


def test_a_failing_migration_leaves_nothing_behind(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE node_facts (id INTEGER)"))
    with pytest.raises(DatabaseUnusable, match="cannot be migrated"):
        migrations.upgrade(engine)
    assert list(tables(engine)) == ["node_facts"]
    assert migrations.current(engine) is None


UPGRADE = """
import sys
from thresher.persistence.database import ThreadSafeDatabaseManager, create_engine
from thresher.persistence.repositories.store import SqlStore
from thresher.persistence.migrations import upgrade
engine = create_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(upgrade(engine))
"""


def test_of_several_processes_at_once_exactly_one_upgrades(database_url: str) -> None:
    create_engine(database_url).dispose()
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", UPGRADE, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = sorted(process.communicate(timeout=60)[0] for process in processes)
    assert answers == ["False\n", "False\n", "True\n"]


def test_the_alembic_command_works_on_the_database_of_the_environment(database_url: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=ROOT,
        env={"DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    engine = create_engine(database_url)
    migrations.check(engine)
    engine.dispose()


def test_looking_at_the_version_does_not_import_alembic(sqlite_url: str) -> None:
    code = (
        "import sys; from thresher.persistence import database, migrations;"
        f"print(migrations.current(database.create_engine({sqlite_url!r})), 'alembic' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "None False\n"
