"""Progress of a run while it goes on: by WebSocket, or as server-sent events; and tickets for who can send no key."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Response, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from thresher.api.deps import BatchToWatch, BoardDep, Reader, RunToWatch, TicketsDep
from thresher.api.progress import events, tell
from thresher.api.schemas.problems import responses
from thresher.engine.work import ENDED, Run

router = APIRouter(prefix="/api/v1", tags=["progress"])


_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["progress", "finished"]},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/RunMoment"},
        },
    },
}


class EventStream(StreamingResponse):
    """Server-sent events; FastAPI's own class would encode each event for each onlooker."""

    media_type = "text/event-stream"


class TicketOut(BaseModel):
    """A ticket: it opens one stream of progress of the workspace, once."""

    token: str = Field(description="Sent as `?token=`.")
    expires_at: datetime


@router.post(
    "/tickets", operation_id="create_ticket", summary="Ask for a ticket", status_code=201, responses=responses()
)
def create_ticket(tickets: TicketsDep, reader: Reader) -> TicketOut:
    """For the WebSocket or the EventSource of a browser, which can send no key in a header."""
    ticket = tickets.issue(reader)
    return TicketOut(token=ticket.token, expires_at=ticket.expires_at)


@router.get(
    "/runs/{run_id}/events",
    operation_id="get_run_events",
    summary="Follow a run by server-sent events",
    response_class=EventStream,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "array"}, "itemSchema": _EVENT}},
            "description": "Events named `progress`, then one named `finished`; the data of each is a state as JSON.",
        },
        204: {"description": "The run has not gone on since the event `finished` that `Last-Event-ID` names."},
        **responses(),
    },
)
async def get_events(
    run: RunToWatch,
    board: BoardDep,
    last_event_id: Annotated[str | None, Header(max_length=100, description="Set by browsers.")] = None,
) -> Response:
    """The state at once, then whenever something happens; whoever works on the run. The connection ends with the run.

    Each event is a whole state: who connects again has missed nothing.
    """
    if _has_been_told(run, last_event_id):
        return Response(status_code=204)
    return EventStream(events(board, run.run_id), headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


@router.websocket("/runs/{run_id}/progress", name="run_progress")
async def follow_run(socket: WebSocket, run: RunToWatch, board: BoardDep) -> None:
    """The same by WebSocket: closed with 1000 after the event ``finished``, with 1012 where the server stops."""
    await socket.accept()
    async with board.run(run.run_id) as channel:
        await tell(socket, channel)


at_the_root = APIRouter(tags=["progress"])


@at_the_root.websocket("/ws/batch/{batch_id}/progress", name="batch_progress")
async def follow_batch(socket: WebSocket, batch: BatchToWatch, board: BoardDep) -> None:
    """A batch by WebSocket: its documents by its rows, its runs as they tell."""
    await socket.accept()
    async with board.batch(batch.batch_id) as channel:
        await tell(socket, channel)


def _has_been_told(run: Run, last_event_id: str | None) -> bool:
    """Whether a client that comes again has had the last event of the run as it is now; 204 stops its coming."""
    number, _, end = (last_event_id or "").partition("-")
    if end != "end" or not number.isdigit() or run.status not in ENDED or run.finished_at is None:
        return False
    return int(number) >= run.finished_at.timestamp() * 1_000_000
