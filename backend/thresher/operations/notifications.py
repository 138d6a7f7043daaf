"""Notifications: somebody is told that a run or a batch has ended, by webhook or e-mail, from rows of the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from thresher.bootstrap import Service
from thresher.core.errors import (
    AddressForbidden,
    BadInput,
    DatabaseUnavailable,
    NotFound,
    PageUnreachable,
    StorageFailed,
    ThresherError,
)
from thresher.core.jobs import ChannelKind, DeliveryEvent
from thresher.core.logging import get_logger
from thresher.engine.retry import RetryPolicy
from thresher.integrations.mail import send_mail
from thresher.integrations.web import WebClient, check_address, parse_networks
from thresher.integrations.webhooks import Message, check_secret, new_secret
from thresher.operations.crew import Crew, CrewOptions
from thresher.persistence.repositories import deliveries as repository
from thresher.persistence.repositories.batches import get_batch, progress_of_batches
from thresher.persistence.repositories.channels import Channel, NewChannel, create_channel, replace_channel
from thresher.persistence.repositories.deliveries import ClaimedDelivery, Delivery, DeliveryOutcome
from thresher.persistence.repositories.workspace_runs import progress_of

log = get_logger(__name__)

AT_ONCE = 4
_TIMEOUT = 20.0  # seconds for one try
_FACTOR, _CAP = 4.0, 6 * 3600.0  # of the waits between tries; the cap in seconds


def create(service: Service, workspace: str, new: NewChannel) -> Channel:
    """Stores a channel; a webhook without a secret gets one, which is to be shown this once.

    Raises:
        BadInput: its target or its secret cannot be used.
        StateConflict: the workspace has one of this name.
    """
    return create_channel(service.db, workspace, _checked(service, new))


def change(service: Service, channel: Channel, new: NewChannel) -> Channel:
    """Changes a channel; a webhook without a new secret keeps its own. See ``create``."""
    kept = channel.secret if new.kind is channel.kind else None
    return replace_channel(service.db, channel, _checked(service, replace(new, secret=new.secret or kept)))


def shown_target(channel: Channel) -> str:
    """Where a channel leads to, without what may be a secret: the path of a webhook often is one."""
    if channel.kind is ChannelKind.EMAIL:
        return channel.target
    parts = urlsplit(channel.target)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"


def send_test(service: Service, channel: Channel) -> Delivery:
    """Sends a message that tells of nothing, to see whether it arrives."""
    delivery = repository.add_test(service.db, channel)
    service.bells.deliveries.set()
    return delivery


def repeat(service: Service, delivery: Delivery) -> Delivery:
    """Sends a notification again.

    Raises:
        StateConflict: it is still to be sent.
    """
    again = repository.repeat_delivery(service.db, delivery)
    service.bells.deliveries.set()
    return again


def _checked(service: Service, new: NewChannel) -> NewChannel:
    if new.kind is ChannelKind.WEBHOOK:
        check_address(new.target)
        return replace(new, secret=check_secret(new.secret) if new.secret else new_secret())
    if service.settings.email_url is None:
        raise BadInput("This server sends no e-mail: EMAIL_URL is not set. Use a webhook, or ask who runs it.")
    name, at, host = new.target.rpartition("@")
    if not (name and at and "." in host) or not new.target.isascii() or any(c in new.target for c in ' ,;<>"\r\n\t'):
        raise BadInput(f"{new.target[:200]!r} is no e-mail address.")
    return replace(new, secret=None)


def delivery_crew(service: Service) -> Crew[ClaimedDelivery]:
    """Who sends notifications. ``service.bells.deliveries`` wakes it."""
    options = CrewOptions("deliveries", AT_ONCE, service.settings.lease_seconds, service.bells.deliveries)
    return Crew(_Deliveries(service), options)


class _Deliveries:
    """See ``Jobs``."""

    def __init__(self, service: Service) -> None:
        settings = service.settings
        self._service = service
        self._web = WebClient(parse_networks(settings.allowed_private_networks), _TIMEOUT)
        self._retry = RetryPolicy(
            max_retries=settings.notification_max_retries,
            base=settings.notification_retry_seconds,
            factor=_FACTOR,
            cap=_CAP,
        )

    def claim(self, owner: str, limit: int, lease: float) -> Sequence[ClaimedDelivery]:
        return repository.claim_deliveries(self._service.db, owner, limit, lease)

    def renew(self, owner: str, lease: float) -> None:
        repository.renew_deliveries(self._service.db, owner, lease)

    def recover(self, is_dead: Callable[[str], bool]) -> None:
        repository.recover_deliveries(self._service.db, is_dead)

    def release(self, owner: str) -> None:
        repository.release_deliveries_of(self._service.db, owner)

    def look_around(self) -> None:
        repository.make_due(self._service.db)

    def stop(self) -> None:
        self._web.stop()

    def work(self, claimed: ClaimedDelivery) -> None:
        delivery = claimed.delivery
        payload = delivery.payload or self._payload(delivery)
        try:
            status = self._sent(claimed, payload)
        except (DatabaseUnavailable, StorageFailed):
            raise
        except ThresherError as error:
            outcome = DeliveryOutcome(payload, None, str(error), self._retry_at(delivery, error))
        else:
            outcome = self._judged(delivery, payload, status)
        repository.finish_delivery(self._service.db, claimed, outcome)
        known = {"delivery_id": delivery.delivery_id, "http_status": outcome.http_status}
        if outcome.error is None:
            log.info("notification sent", **known)
        else:
            log.info("notification failed", **known)

    def _sent(self, claimed: ClaimedDelivery, payload: Mapping[str, Any]) -> int | None:
        """Sends; returns the status of a webhook's answer."""
        channel, delivery = claimed.channel, claimed.delivery
        if not channel.is_enabled and delivery.event is not DeliveryEvent.TEST:
            raise AddressForbidden(f"The channel {channel.name} is switched off.")
        if channel.kind is ChannelKind.WEBHOOK:
            message = Message(delivery.delivery_id, payload, channel.secret or "")
            now = datetime.now(UTC)
            return self._web.post(channel.target, message.body(), message.headers(now)).status
        server = self._service.settings.email_url
        if server is None:
            raise PageUnreachable("This server sends no e-mail: EMAIL_URL is not set.")
        send_mail(server.get_secret_value(), channel.target, _title(payload), _text(payload))
        return None

    def _judged(self, delivery: Delivery, payload: Mapping[str, Any], status: int | None) -> DeliveryOutcome:
        if status is None or HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return DeliveryOutcome(payload, status)
        error = PageUnreachable(f"The receiver answers {status}: it has not taken the message.")
        is_final = status == HTTPStatus.GONE  # the specification: it wants no more of them
        return DeliveryOutcome(payload, status, str(error), None if is_final else self._retry_at(delivery, error))

    def _retry_at(self, delivery: Delivery, error: ThresherError) -> datetime | None:
        delay = self._retry.delay(error, delivery.attempts)
        return None if delay is None else datetime.now(UTC) + timedelta(seconds=delay)

    def _payload(self, delivery: Delivery) -> dict[str, Any]:
        data: dict[str, Any] = {"workspace": delivery.workspace}
        try:
            if delivery.run_id is not None:
                data |= self._of_run(delivery.run_id)
            if delivery.batch_id is not None:
                data |= self._of_batch(delivery.batch_id)
        except NotFound:  # deleted meanwhile, and this row with it
            log.debug("notification of what is gone", delivery_id=delivery.delivery_id)
        return {"type": delivery.event.value, "timestamp": datetime.now(UTC).isoformat(), "data": data}

    def _of_run(self, run_id: str) -> dict[str, Any]:
        run = self._service.store.get_run(run_id)
        progress = progress_of(self._service.db, [run_id])[run_id]
        return {
            "run_id": run_id,
            "status": run.status.value,
            "file": run.source.get("name"),
            "subtrees_processed": progress.counts.succeeded,
            "node_facts_extracted": progress.facts,
            "nodes": asdict(progress.counts),
            "error_class": None if run.error is None else run.error.get("class"),
            "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
        }

    def _of_batch(self, batch_id: str) -> dict[str, Any]:
        batch = get_batch(self._service.db, batch_id)
        progress = progress_of_batches(self._service.db, [batch_id])[batch_id]
        return {
            "batch_id": batch_id,
            "name": batch.name,
            "schedule_id": batch.schedule_id,
            "status": progress.documents.status(batch.requested).value,
            "documents": {"total": progress.documents.total, **asdict(progress.documents)},
            "nodes": asdict(progress.runs.counts),
            "node_facts_extracted": progress.runs.facts,
            "finished_at": None if batch.finished_at is None else batch.finished_at.isoformat(),
        }


def _title(payload: Mapping[str, Any]) -> str:
    data = payload["data"]
    if payload["type"] == DeliveryEvent.TEST:
        return "Thresher: a test"
    what = f"batch {data.get('name') or data.get('batch_id')}" if "batch_id" in data else f"run of {data.get('file')}"
    return f"Thresher: {what}: {data.get('status')}"[:200]


def _text(payload: Mapping[str, Any]) -> str:
    """Lines of names and values: what is known, and no facts of the document."""
    lines = [f"{name}: {value}" for name, value in payload["data"].items() if not isinstance(value, Mapping)]
    counted = [
        f"{name}: " + ", ".join(f"{count} {state}" for state, count in value.items() if count)
        for name, value in payload["data"].items()
        if isinstance(value, Mapping)
    ]
    return "\n".join([*lines, *counted])
