"""What a server needs: runs that wait for it, documents that are kept, keys to workspaces.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("workspace", "sha256", name=op.f("uq_sources_workspace_sha256")),
    )
    op.create_index("ix_sources_workspace_id", "sources", ["workspace", "id"])
    op.create_index("ix_sources_sha256", "sources", ["sha256"])
    op.create_index("ix_sources_used_at", "sources", ["used_at"])
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("source_id", sa.Text(), nullable=True))
        runs.create_foreign_key(op.f("fk_runs_source_id"), "sources", ["source_id"], ["id"], ondelete="SET NULL")
    filled = sa.text("source_id IS NOT NULL")
    op.create_index("ix_runs_source_id", "runs", ["source_id"], sqlite_where=filled, postgresql_where=filled)
    op.create_index("ix_runs_workspace_status_id", "runs", ["workspace", "status", "id"])
    op.create_table(
        "queued_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("queued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(owner IS NULL) = (lease_until IS NULL)", name=op.f("ck_queued_runs_lease")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_queued_runs_run_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_queued_runs")),
    )
    op.create_index("ix_queued_runs_queued_at", "queued_runs", ["queued_at"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workspace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("beginning", sa.Text(), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_upload_bytes", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('read', 'write')", name=op.f("ck_api_keys_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_index("ix_api_keys_workspace_id", "api_keys", ["workspace", "id"])


def downgrade() -> None:
    op.drop_table("api_keys")
    op.drop_table("queued_runs")
    op.drop_index("ix_runs_workspace_status_id", "runs")
    op.drop_index("ix_runs_source_id", "runs")
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f("fk_runs_source_id"), type_="foreignkey")
        runs.drop_column("source_id")
    op.drop_table("sources")
