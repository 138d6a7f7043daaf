"""Payloads leave their items' rows: what finished items leave behind is used again.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "item_payloads",
        sa.Column("item_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["item_id"], ["items.id"], name=op.f("fk_item_payloads_item_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("item_id", name=op.f("pk_item_payloads")),
    )
    op.execute("INSERT INTO item_payloads (item_id, payload) SELECT id, payload FROM items WHERE payload IS NOT NULL")
    op.execute("ALTER TABLE items DROP COLUMN payload")  # in place: to make the table anew would empty its children


def downgrade() -> None:
    op.execute(f"ALTER TABLE items ADD COLUMN payload {_binary()}")
    op.execute(
        "UPDATE items SET payload = (SELECT payload FROM item_payloads WHERE item_id = items.id) "
        "WHERE id IN (SELECT item_id FROM item_payloads)"
    )
    op.drop_table("item_payloads")


def _binary() -> str:
    return str(sa.LargeBinary().compile(dialect=op.get_bind().dialect))
