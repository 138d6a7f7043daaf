"""Notifications: who is told of ends, how that went, sent again."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from thresher.bootstrap import Service
from thresher.core.errors import BadInput
from thresher.core.jobs import ChannelKind, DeliveryStatus
from thresher.operations import notifications
from thresher.operations.access import Principal
from thresher.persistence.repositories import channels, deliveries
from thresher.persistence.repositories.channels import NewChannel
from thresher.persistence.repositories.deliveries import DeliveryFilter
from thresher.web.deps import Fields, FormDep, ServiceDep, Visitor, Writer
from thresher.web.forms import one, required
from thresher.web.rendering import redirect, render

router = APIRouter(prefix="/notifications")

PAGE = 50
CHANNELS = 200
LIVE_EVERY = 3_000  # ms between two looks
TABS = {"all": None, **{status.value: status for status in DeliveryStatus if status is not DeliveryStatus.SENDING}}


@router.get("")
def show_notifications(
    request: Request,
    service: ServiceDep,
    visitor: Visitor,
    tab: Annotated[str, Query(max_length=20)] = "all",
    before: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """Channels and deliveries; only the deliveries where a part of the page asks."""
    template = "_deliveries.html" if request.headers.get("hx-request") else "notifications.html"
    return _page(request, service, visitor, template, tab=tab, before=before)


@router.post("/channels")
def create_channel(request: Request, service: ServiceDep, writer: Writer, fields: FormDep) -> Response:
    """Stores a channel; this page alone shows the secret that signs its messages."""
    kind = ChannelKind.EMAIL if one(fields, "kind") == ChannelKind.EMAIL.value else ChannelKind.WEBHOOK
    try:
        name = required(fields, "name", "A channel needs a name.")
        new = NewChannel(name, kind, one(fields, "target"), is_always="is_always" in fields)
        made = notifications.create(service, writer.workspace, new)
    except BadInput as error:
        return _page(request, service, writer, refusal=str(error), fields=fields)
    return _page(request, service, writer, made=made)


@router.post("/channels/{channel_id}/test")
def try_channel(request: Request, service: ServiceDep, writer: Writer, channel_id: str, _fields: FormDep) -> Response:
    """Sends a message that tells of nothing."""
    notifications.send_test(service, channels.get_channel(service.db, writer.workspace, channel_id))
    return redirect(request, "/notifications")


@router.post("/channels/{channel_id}/delete")
def delete_channel(
    request: Request, service: ServiceDep, writer: Writer, channel_id: str, _fields: FormDep
) -> Response:
    """Deletes a channel with its deliveries."""
    channels.delete_channel(service.db, channels.get_channel(service.db, writer.workspace, channel_id))
    return redirect(request, "/notifications")


@router.post("/{delivery_id}/repeat")
def repeat(request: Request, service: ServiceDep, writer: Writer, delivery_id: str, _fields: FormDep) -> Response:
    """Sends a notification again."""
    notifications.repeat(service, deliveries.get_delivery(service.db, writer.workspace, delivery_id))
    return redirect(request, "/notifications")


def _page(
    request: Request,
    service: Service,
    visitor: Principal,
    template: str = "notifications.html",
    **more: Any,  # noqa: ANN401 # what the template shows
) -> Response:
    tab, before = more.pop("tab", "all"), more.pop("before", None)
    tab = tab if tab in TABS else "all"
    found = deliveries.list_deliveries(service.db, visitor.workspace, DeliveryFilter(TABS[tab]), PAGE + 1, before)
    known = channels.list_channels(service.db, visitor.workspace, CHANNELS)
    fields: Fields = more.pop("fields", {})
    context: dict[str, Any] = {
        "channels": [(channel, notifications.shown_target(channel)) for channel in known],
        "names": {channel.channel_id: channel.name for channel in known},
        "deliveries": found[:PAGE],
        "tab": tab,
        "tabs": tuple(TABS),
        "before": before,
        "live_every": LIVE_EVERY,
        "next": f"/notifications?tab={tab}&before={found[PAGE - 1].delivery_id}" if len(found) > PAGE else None,
        "has_mail": service.settings.email_url is not None,
        "values": {name: one(fields, name) for name in ("name", "kind", "target")},
        "made": None,
        "refusal": None,
    }
    return render(request, template, status=422 if more.get("refusal") else 200, **{**context, **more})
