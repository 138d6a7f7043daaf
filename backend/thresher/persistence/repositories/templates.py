"""Named sets of options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from thresher.core.errors import NotFound, StateConflict
from thresher.persistence.database import ThreadSafeDatabaseManager
from thresher.persistence.repositories.sortable_ids import SortableIds
from thresher.persistence.tables import TemplateRow

TEMPLATES: Final[sa.Table] = sa.Table(TemplateRow.__tablename__, TemplateRow.metadata)
_template = TEMPLATES.c
_ids = SortableIds("t")


@dataclass(frozen=True, slots=True)
class NewTemplate:
    """A template to be. ``options`` as JSON."""

    name: str
    options: Mapping[str, Any]
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A template as it is stored."""

    template_id: str
    workspace: str
    name: str
    description: str | None
    options: Mapping[str, Any]
    created_at: datetime
    updated_at: datetime


def create_template(db: ThreadSafeDatabaseManager, workspace: str, new: NewTemplate) -> Template:
    """Stores a template.

    Raises:
        StateConflict: the workspace has one of this name.
    """
    now = datetime.now(UTC)
    row = {"id": _ids.new(now), "workspace": workspace, **_values(new), "created_at": now, "updated_at": now}
    try:
        db.write_with_lock(lambda session: session.connection().execute(TEMPLATES.insert(), row) and None)
    except IntegrityError as error:
        raise _taken(new) from error
    return get_template(db, workspace, str(row["id"]))


def get_template(db: ThreadSafeDatabaseManager, workspace: str, name: str) -> Template:
    """A template of a workspace by its identifier or its name.

    Raises:
        NotFound: it has none.
    """
    named = sa.or_(_template.id == name, _template.name == name)
    query = sa.select(TEMPLATES).where(_template.workspace == workspace, named)
    with db.read() as session:
        rows = session.execute(query.order_by(_template.id != name).limit(1)).all()
    if not rows:
        raise NotFound(f"No template is named {name!r}.")
    return Template(*rows[0])


def list_templates(
    db: ThreadSafeDatabaseManager, workspace: str, limit: int, after: str | None = None
) -> Sequence[Template]:
    """A page of the templates of a workspace, the oldest first, behind the one with the identifier ``after``."""
    query = sa.select(TEMPLATES).where(_template.workspace == workspace, _template.id > (after or ""))
    with db.read() as session:
        return [Template(*row) for row in session.execute(query.order_by(_template.id).limit(limit))]


def replace_template(db: ThreadSafeDatabaseManager, template: Template, new: NewTemplate) -> Template:
    """Changes a template; what was begun from it stays as it is.

    Raises:
        StateConflict: another one has this name.
    """
    update = TEMPLATES.update().where(_template.id == template.template_id)
    update = update.values(**_values(new), updated_at=datetime.now(UTC))
    try:
        db.write_with_lock(lambda session: session.connection().execute(update) and None)
    except IntegrityError as error:
        raise _taken(new) from error
    return get_template(db, template.workspace, template.template_id)


def delete_template(db: ThreadSafeDatabaseManager, template: Template) -> None:
    """Deletes a template.

    Raises:
        StateConflict: a schedule uses it.
    """
    delete = TEMPLATES.delete().where(_template.id == template.template_id)
    try:
        db.write_with_lock(lambda session: session.connection().execute(delete) and None)
    except IntegrityError as error:
        raise StateConflict(f"A schedule uses the template {template.name!r}: change or delete it first.") from error


def _values(new: NewTemplate) -> dict[str, Any]:
    return {name: getattr(new, name) for name in ("name", "description", "options")}


def _taken(new: NewTemplate) -> StateConflict:
    return StateConflict(f"There is a template named {new.name!r}: change that one, or choose another name.")
