"""Notifications: signed webhooks and e-mail, sent from the database, also after the server was killed."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from command import GUARD, Thresher
from receiver import LOOPBACK, Request, web_server
from server import RunningServer, running_server
from standardwebhooks import Webhook, WebhookVerificationError

from thresher.testing.model_server import running_model_server

CHANNELS, DELIVERIES = "/api/v1/channels/", "/api/v1/deliveries/"
DOCUMENT = b"<PaxList><Pax><Id>P1</Id></Pax><Pax><Id>P2</Id></Pax></PaxList>"
QUICK = {"NOTIFICATION_RETRY_SECONDS": "0.1"}


def taken(_request: Request) -> tuple[int, dict[str, str], bytes]:
    return 204, {}, b""


def channel(server: RunningServer, target: str, **more: Any) -> dict[str, Any]:
    wanted = {"name": "ours", "kind": "webhook", "target": target, **more}
    answer = server.client.post(CHANNELS, json=wanted)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def until(server: RunningServer, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    end = time.monotonic() + GUARD
    while True:
        found: list[dict[str, Any]] = server.client.get(DELIVERIES).json()["data"]
        if is_so(found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)


def test_the_end_of_a_run_is_told_once_and_signed(thresher_on: Thresher) -> None:
    log = thresher_on.folder / "server.log"
    logged = {"LOG_LEVEL": "debug", "LOG_FORMAT": "json", "LOG_FILE": str(log)}
    with web_server(taken) as web, running_server(thresher_on, **LOOPBACK, **logged) as server:
        made = channel(server, f"{web.address}/hooks/very-secret-path?token=hidden")
        secret = made["secret"]
        run = server.upload(DOCUMENT, notify="ours", query={"wait": 60}).json()
        (request,) = web.until(1)
        told = Webhook(secret).verify(request.body, request.headers)
        assert (told["type"], told["data"]["run_id"]) == ("run.ended", run["run_id"])
        assert (told["data"]["status"], told["data"]["subtrees_processed"]) == ("succeeded", 2)
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(request.body + b" ", request.headers)
        (delivery,) = until(server, lambda found: found[0]["status"] == "delivered")
        assert delivery["delivery_id"] == request.headers["webhook-id"]
        assert (delivery["attempts"], delivery["http_status"], delivery["payload"]) == (1, 204, told)
        again = server.client.post(f"{DELIVERIES}{delivery['delivery_id']}/repeat")
        assert again.status_code == 202
        repeated = web.until(2)[1]
        assert (repeated.body, repeated.headers["webhook-id"]) == (request.body, request.headers["webhook-id"])
        seen = [server.client.get(place).text for place in (CHANNELS, f"{CHANNELS}ours", DELIVERIES)]
        answers = "".join(seen) + log.read_text("utf-8")
        for hidden in (secret, "very-secret-path", "hidden"):
            assert hidden not in answers


def test_a_receiver_that_fails_is_asked_again_and_given_up_in_the_end(thresher: Thresher) -> None:
    answers = iter([500, 302, 200])
    settings = {**LOOPBACK, **QUICK, "NOTIFICATION_MAX_RETRIES": "3"}
    with (
        web_server(lambda _: (next(answers, 500), {"Location": "/elsewhere"}, b"")) as web,
        running_server(thresher, **settings) as server,
    ):
        channel(server, f"{web.address}/hook")
        server.upload(DOCUMENT, notify="ours")
        (first,) = until(server, lambda found: found[0]["status"] == "delivered")
        assert first["attempts"] == 3
        assert {request.path for request in web.requests} == {"/hook"}, "redirects are not followed"
        server.client.post(f"{CHANNELS}ours/test")
        failed = until(server, lambda found: found[0]["status"] == "failed")[0]
        assert (failed["event"], failed["attempts"], failed["http_status"]) == ("test", 4, 500)
        assert server.client.get(DELIVERIES, params={"status": "failed"}).json()["data"] == [failed]
        web.answer = lambda _: (410, {}, b"")
        server.client.post(f"{DELIVERIES}{failed['delivery_id']}/repeat")
        gone = until(server, lambda found: found[0]["http_status"] == 410)[0]
        assert (gone["status"], gone["attempts"]) == ("failed", 1), "410: it wants no more of them"


def test_a_killed_server_loses_no_notification(thresher_on: Thresher) -> None:
    with running_model_server(latency=0.3) as model, web_server(taken) as web:
        settings = {"OPENAI_BASE_URL": model.base_url, "LLM_MODEL": "test-model", **LOOPBACK, **QUICK}
        with running_server(thresher_on, **settings) as first:
            channel(first, f"{web.address}/hook", always=True)
            runs = [first.upload(DOCUMENT, f"{n}.xml", paths="/PaxList/Pax").json()["run_id"] for n in range(3)]
            batch = first.client.post("/api/v1/batch", json={"urls": ["http://192.0.2.1:9/a.xml", "http://10.0.0.1/"]})
            first.kill()
        with running_server(thresher_on, **settings, FETCH_TIMEOUT_SECONDS="1", MAX_RETRIES="0") as second:
            found = until(second, lambda found: [one["status"] for one in found] == ["delivered"] * 4)
    once = without_repeats(web.requests)
    told = [json.loads(request.body)["data"] for request in once]
    assert sorted(one["run_id"] for one in told if "run_id" in one) == sorted(runs)
    assert [one["status"] for one in told if one.get("batch_id") == batch.json()["batch_id"]] == ["failed"]
    assert len(once) == len(found) == 4


def without_repeats(requests: Sequence[Request]) -> list[Request]:
    """One request of each identifier: what was sent when its server was killed is sent again, in the same words."""
    first: dict[str, Request] = {}
    for request in requests:
        assert first.setdefault(request.headers["webhook-id"], request).body == request.body
    return list(first.values())


def test_a_run_that_is_retried_is_told_of_again(thresher: Thresher) -> None:
    with web_server(taken) as web, running_server(thresher, **LOOPBACK) as server:
        channel(server, f"{web.address}/hook")
        run_id = server.upload(DOCUMENT[:-5], notify="ours").json()["run_id"]
        assert json.loads(web.until(1)[0].body)["data"]["status"] == "failed"
        assert server.client.post(f"/api/v1/runs/{run_id}/resume").status_code == 200
        web.until(2)


def test_private_receivers_are_refused(thresher: Thresher) -> None:
    with web_server(taken) as web, running_server(thresher) as server:
        channel(server, web.address)
        server.client.post(f"{CHANNELS}ours/test")
        (failed,) = until(server, lambda found: found[0]["status"] == "failed")
        assert "ALLOWED_PRIVATE_NETWORKS" in failed["error"]
        assert web.requests == []


def test_channels_are_unique_changed_and_deleted(thresher: Thresher) -> None:
    with running_server(thresher) as server:
        made = channel(server, "https://example.com/a")
        assert made["target"] == "https://example.com/…"
        assert server.client.post(CHANNELS, json={**made_of(made), "name": "ours"}).status_code == 409
        assert server.client.post(CHANNELS, json={**made_of(made), "target": "ftp://x"}).status_code == 422
        refused = server.client.post(CHANNELS, json={**made_of(made), "name": "x", "secret": "whsec_short"})
        assert refused.status_code == 422
        assert "short" not in refused.json()["detail"]
        mail = server.client.post(CHANNELS, json={"name": "m", "kind": "email", "target": "a@example.com"})
        assert "EMAIL_URL" in mail.json()["detail"]
        changed = server.client.put(f"{CHANNELS}ours", json={**made_of(made), "name": "theirs", "enabled": False})
        assert (changed.json()["name"], changed.json()["enabled"]) == ("theirs", False)
        assert server.upload(DOCUMENT, notify="nobody").status_code == 404
        assert server.client.get(f"{CHANNELS}theirs", params={"workspace": "other"}).status_code == 404
        assert server.client.delete(f"{CHANNELS}theirs").status_code == 204
        assert server.client.get(CHANNELS).json()["data"] == []


def made_of(_made: dict[str, Any]) -> dict[str, Any]:
    return {"name": "ours", "kind": "webhook", "target": "https://example.com/b"}


class _Mailbox(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as a sender needs."""

    def handle(self) -> None:
        self.wfile.write(b"220 mailbox\r\n")
        while line := self.rfile.readline():
            command = line.split(b" ")[0].strip().upper()
            if command == b"RCPT":
                self.server.recipients.append(line.strip().decode())  # type: ignore[attr-defined]
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = list(iter(self.rfile.readline, b".\r\n"))
                self.server.messages.append(b"".join(lines).decode())  # type: ignore[attr-defined]
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 fine\r\n")


@contextmanager
def mailbox() -> Iterator[Any]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mailbox)
    server.recipients, server.messages = [], []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_end_of_a_batch_is_told_by_mail(thresher: Thresher) -> None:
    with mailbox() as mails:
        address = f"mailto://127.0.0.1:{mails.server_address[1]}?from=thresher@example.com&mode=insecure"
        with running_server(thresher, EMAIL_URL=address) as server:
            channel(server, "reader@example.com", kind="email")
            wanted = {"name": "nightly", "urls": ["http://10.0.0.1/a.xml"], "options": {"notify": ["ours"]}}
            assert server.client.post("/api/v1/batch", json=wanted).status_code == 202
            (delivery,) = until(server, lambda found: found[0]["status"] in {"delivered", "failed"})
            assert delivery["status"] == "delivered", delivery
    assert "reader@example.com" in mails.recipients[0]
    assert "nightly" in mails.messages[0]
