"""What is asked of a running run, runs that go before others, and answers kept for equal questions.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("requested", sa.Text(), nullable=True))
        runs.add_column(sa.Column("priority", sa.Integer(), server_default=sa.text("1"), nullable=False))
        runs.add_column(sa.Column("fallbacks", sa.JSON(), nullable=True))
        runs.drop_constraint(op.f("ck_runs_mode"), type_="check")
        runs.create_check_constraint(op.f("ck_runs_mode"), "mode IN ('parallel', 'batch', 'sequential')")
        runs.add_column(sa.Column("budget", sa.Text(), nullable=True))
        runs.create_check_constraint(op.f("ck_runs_requested"), "requested IN ('pause', 'cancel')")
        runs.create_check_constraint(op.f("ck_runs_priority"), "priority BETWEEN 0 AND 2")
    with op.batch_alter_table("attempts") as attempts:
        attempts.add_column(sa.Column("cache_hits", sa.Integer(), server_default=sa.text("0"), nullable=False))
        attempts.add_column(sa.Column("prompt_bytes", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "cached_answers",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Double(), nullable=True),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_cached_answers")),
    )
    op.create_index(
        "ix_cached_answers_used_at_size_bytes", "cached_answers", ["used_at", "size_bytes"], unique=False
    )
    op.create_index("ix_cached_answers_provider_model", "cached_answers", ["provider", "model"], unique=False)


def downgrade() -> None:
    op.drop_table("cached_answers")
    with op.batch_alter_table("attempts") as attempts:
        attempts.drop_column("prompt_bytes")
        attempts.drop_column("cache_hits")
    op.execute("UPDATE runs SET mode = 'parallel' WHERE mode = 'batch'")
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f("ck_runs_mode"), type_="check")
        runs.create_check_constraint(op.f("ck_runs_mode"), "mode IN ('parallel', 'sequential')")
        runs.drop_column("fallbacks")
        runs.drop_constraint(op.f("ck_runs_priority"), type_="check")
        runs.drop_constraint(op.f("ck_runs_requested"), type_="check")
        runs.drop_column("budget")
        runs.drop_column("priority")
        runs.drop_column("requested")
