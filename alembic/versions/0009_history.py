"""Runs of a workspace by when they ended, for what is shown over time.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_runs_workspace_finished_at", "runs", ["workspace", "finished_at"])


def downgrade() -> None:
    op.drop_index("ix_runs_workspace_finished_at", "runs")
