"""Of items that were lost before it is written which attempt has begun.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("begun", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.execute("ALTER TABLE items DROP COLUMN begun")  # in place: to make the table anew would empty its children
