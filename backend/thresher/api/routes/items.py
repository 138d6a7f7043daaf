"""The nodes of a run, the tries at them, and those that were given up."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from thresher.api.deps import Cursor, Limit, RunDep, ServiceDep
from thresher.api.schemas.items import AttemptOut, DeadLetterOut, ItemOut
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.problems import responses
from thresher.engine.work import ItemStatus
from thresher.operations.places import cursor_of, place_of
from thresher.persistence.repositories.items import (
    ItemPage,
    attempts_of,
    dead_letters,
    get_item,
    list_items,
)

router = APIRouter(prefix="/api/v1/runs/{run_id}", tags=["items"])

ItemId = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get("/items", operation_id="list_items", summary="List the nodes of a run", responses=responses())
def get_items(
    service: ServiceDep,
    run: RunDep,
    status: Annotated[list[ItemStatus], Query(description="Only nodes of these states.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[ItemOut]:
    """A page of the nodes, in document order."""
    found = list_items(service.db, run.run_id, ItemPage(limit + 1, place_of(cursor)), status)
    following = cursor_of(found[limit - 1].place) if len(found) > limit else None
    return PageOf(data=[ItemOut.of(item) for item in found[:limit]], next=following)


@router.get("/items/{item_id}", operation_id="get_item", summary="Show a node", responses=responses())
def get_one(service: ServiceDep, run: RunDep, item_id: ItemId) -> ItemOut:
    """A node, as it is now."""
    return ItemOut.of(get_item(service.db, run.run_id, item_id))


@router.get(
    "/items/{item_id}/attempts", operation_id="list_attempts", summary="List the tries at a node", responses=responses()
)
def get_attempts(service: ServiceDep, run: RunDep, item_id: ItemId) -> list[AttemptOut]:
    """All tries, in order; retries are bounded, so there are few."""
    item = get_item(service.db, run.run_id, item_id)
    return [AttemptOut.of(attempt) for attempt in attempts_of(service.db, item.item_id)]


@router.get(
    "/dead-letters",
    operation_id="list_dead_letters",
    summary="List the nodes that were given up",
    responses=responses(),
)
def get_dead_letters(
    service: ServiceDep,
    run: RunDep,
    error_class: Annotated[list[str], Query(description="Only those that failed with these.")] = [],  # noqa: B006
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[DeadLetterOut]:
    """A page of the dead letters, in document order."""
    found = dead_letters(service.db, run.run_id, error_class, ItemPage(limit + 1, place_of(cursor)))
    following = cursor_of(found[limit - 1].place) if len(found) > limit else None
    return PageOf(data=[DeadLetterOut.of(letter) for letter in found[:limit]], next=following)
