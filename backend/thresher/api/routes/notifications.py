"""Who is told that a run or a batch has ended, and how that went."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from thresher.api.deps import Cursor, Limit, Reader, ServiceDep, Writer
from thresher.api.schemas.lists import PageOf
from thresher.api.schemas.notifications import ChannelIn, ChannelOut, DeliveriesQuery, DeliveryOut, NewChannelOut
from thresher.api.schemas.problems import responses
from thresher.operations import notifications
from thresher.persistence.repositories import channels, deliveries

router = APIRouter(prefix="/api/v1", tags=["notifications"])


@router.get("/channels/", operation_id="list_channels", summary="List channels", responses=responses())
def get_channels(service: ServiceDep, reader: Reader, limit: Limit = 50, cursor: Cursor = None) -> PageOf[ChannelOut]:
    """A page of the channels of the workspace, the oldest first."""
    found = channels.list_channels(service.db, reader.workspace, limit + 1, cursor)
    following = found[limit - 1].channel_id if len(found) > limit else None
    return PageOf(data=[ChannelOut.of(channel) for channel in found[:limit]], next=following)


@router.post(
    "/channels/", operation_id="create_channel", summary="Store a channel", status_code=201, responses=responses(409)
)
def create_channel(response: Response, service: ServiceDep, writer: Writer, wanted: ChannelIn) -> NewChannelOut:
    """Stores a channel. The answer has the secret that signs its messages, this once."""
    channel = notifications.create(service, writer.workspace, wanted.new())
    response.headers["Location"] = f"/api/v1/channels/{channel.channel_id}"
    return NewChannelOut(**ChannelOut.of(channel).model_dump(), secret=channel.secret)


@router.get("/channels/{name}", operation_id="get_channel", summary="Show a channel", responses=responses())
def get_channel(service: ServiceDep, reader: Reader, name: str) -> ChannelOut:
    """A channel, by its identifier or its name."""
    return ChannelOut.of(channels.get_channel(service.db, reader.workspace, name))


@router.put("/channels/{name}", operation_id="replace_channel", summary="Change a channel", responses=responses(409))
def replace_channel(service: ServiceDep, writer: Writer, name: str, wanted: ChannelIn) -> ChannelOut:
    """Changes a channel; without a new secret it keeps its own."""
    channel = channels.get_channel(service.db, writer.workspace, name)
    return ChannelOut.of(notifications.change(service, channel, wanted.new()))


@router.delete(
    "/channels/{name}",
    operation_id="delete_channel",
    summary="Delete a channel",
    status_code=204,
    responses=responses(),
)
def delete_channel(service: ServiceDep, writer: Writer, name: str) -> None:
    """Deletes a channel with its deliveries."""
    channels.delete_channel(service.db, channels.get_channel(service.db, writer.workspace, name))


@router.post(
    "/channels/{name}/test",
    operation_id="test_channel",
    summary="Send a test",
    status_code=202,
    responses=responses(),
)
def test_channel(service: ServiceDep, writer: Writer, name: str) -> DeliveryOut:
    """Sends a message that tells of nothing, to see whether it arrives."""
    channel = channels.get_channel(service.db, writer.workspace, name)
    return DeliveryOut.of(notifications.send_test(service, channel))


@router.get("/deliveries/", operation_id="list_deliveries", summary="List deliveries", responses=responses())
def get_deliveries(
    service: ServiceDep,
    reader: Reader,
    asked: Annotated[DeliveriesQuery, Query()],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> PageOf[DeliveryOut]:
    """A page of the notifications of the workspace, the newest first."""
    found = deliveries.list_deliveries(service.db, reader.workspace, asked.filter(), limit + 1, cursor)
    following = found[limit - 1].delivery_id if len(found) > limit else None
    return PageOf(data=[DeliveryOut.of(delivery) for delivery in found[:limit]], next=following)


@router.get("/deliveries/{delivery_id}", operation_id="get_delivery", summary="Show a delivery", responses=responses())
def get_delivery(service: ServiceDep, reader: Reader, delivery_id: str) -> DeliveryOut:
    """A notification, and how it went."""
    return DeliveryOut.of(deliveries.get_delivery(service.db, reader.workspace, delivery_id))


@router.post(
    "/deliveries/{delivery_id}/repeat",
    operation_id="repeat_delivery",
    summary="Send a notification again",
    status_code=202,
    responses=responses(409),
)
def repeat_delivery(service: ServiceDep, writer: Writer, delivery_id: str) -> DeliveryOut:
    """Sends it again, with fresh tries: the same words under the same identifier."""
    delivery = deliveries.get_delivery(service.db, writer.workspace, delivery_id)
    return DeliveryOut.of(notifications.repeat(service, delivery))
