"""The client against real HTTP on loopback: a server that sends prepared bytes and keeps what it was sent."""

from __future__ import annotations

import gzip
import importlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import BaseModel

from thresher.core.errors import (
    AuthenticationFailed,
    BadConfiguration,
    ModelUnreachable,
    ModelUnusable,
    PermanentLLMError,
    PromptTooLong,
    QuotaExhausted,
    RateLimited,
    ThresherError,
    TransientLLMError,
)
from thresher.llm.client import ModelRequest
from thresher.llm.prices import Prices
from thresher.llm.providers.openai import Connections, OpenAIClient
from thresher.llm.providers.preparation import AzureServer, OpenAIServer
from thresher.llm.schema import ResponseSchema

HANG = b"hang"
TRICKLE = b"trickle"
CUT = b"<the connection ends here>"
KEY = "sk-a-secret-key"


@pytest.fixture(autouse=True, scope="module")
def _sdk_is_loaded() -> None:
    """So that no client here starts a process of its own for it: test_preparation.py looks at that."""
    importlib.import_module("openai")


class Answer(BaseModel):
    node_type: str


SCHEMA = ResponseSchema.of_model(Answer)
REQUEST = ModelRequest(system="Extract.", user="<A>ü</A>", subtree="<A>ü</A>", schema=SCHEMA, max_output_tokens=100)


@dataclass
class Server:
    """Answers request after request with the next of its replies, the last one for ever."""

    replies: Sequence[bytes]
    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def bodies(self) -> list[dict]:
        return [json.loads(body) for line, _, body in self.requests if line.startswith("POST")]

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                headers = {}
                while (header := stream.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers.get("content-length", 0)))
                with self._lock:
                    reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
                    self.requests.append((line.decode().strip(), headers, body))
                if reply == HANG:
                    stream.read(1)  # until the client goes away
                    return
                if reply == TRICKLE:
                    self._trickle(connection)
                    return
                if not reply:
                    return
                connection.sendall(reply.removesuffix(CUT))
                if reply.endswith(CUT):
                    return

    def _trickle(self, connection: socket.socket) -> None:
        """A blank now and then, as gateways send them to keep a connection alive, until the client goes away."""
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while not self._closing.wait(0.02):
                connection.sendall(b"1\r\n \r\n")

    def close(self) -> None:
        self._closing.set()
        for connection in self._open:
            connection.close()


@contextmanager
def serving(*replies: bytes) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        server = Server(replies, port=listener.getsockname()[1])
        thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            server.close()


def http(status: int = 200, body: object = b"", **headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + content


def completion(content: object = '{"node_type":"A"}', **changes: object) -> dict:
    message = {"role": "assistant", "content": content} | changes.pop("message", {})
    choice = {"index": 0, "finish_reason": "stop", "message": message} | changes.pop("choice", {})
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 600}}
    return {"model": "gpt-4o-2024-08-06", "choices": [choice], "usage": usage} | changes


OK = http(200, completion())


@contextmanager
def client_of(server: Server, *, timeout: float = 5.0, workers: int = 2) -> Iterator[OpenAIClient]:
    client = OpenAIClient(
        "gpt-4o", OpenAIServer(KEY, server.base_url), connections=Connections(workers=workers, timeout=timeout)
    )
    try:
        yield client
    finally:
        client.close()


def error_of(*replies: bytes, timeout: float = 5.0) -> ThresherError:
    with serving(*replies) as server, client_of(server, timeout=timeout) as client:
        with pytest.raises(ThresherError) as caught:
            client.complete(REQUEST)
        assert KEY not in str(caught.value)
        return caught.value


def refusal(code: str | None = None, message: str = "no", param: str | None = None, kind: str = "x") -> dict:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def test_a_completion_is_asked_for_once_with_the_key_and_the_strict_schema() -> None:
    with serving(OK) as server, client_of(server) as client:
        reply = client.complete(REQUEST)
    ((line, headers, _),) = server.requests
    (body,) = server.bodies()
    assert line == "POST /v1/chat/completions HTTP/1.1"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert body["messages"] == [{"role": "system", "content": "Extract."}, {"role": "user", "content": "<A>ü</A>"}]
    assert body["response_format"] == SCHEMA.bounded_format
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("gpt-4o", 100, 0.0)
    assert reply.text == '{"node_type":"A"}'
    assert (reply.finish_reason, reply.model, reply.refusal) == ("stop", "gpt-4o-2024-08-06", None)


def test_tokens_and_cost_are_counted_with_the_cached_part_at_its_own_price() -> None:
    with serving(OK) as server, client_of(server) as client:
        usage = client.complete(REQUEST).usage
    assert (usage.requests, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (1, 1000, 100, 600)
    assert usage.cost_usd == pytest.approx((400 * 2.5 + 600 * 1.25 + 100 * 10) / 1e6)


def test_the_cost_of_a_reply_without_usage_is_unknown_not_zero() -> None:
    with serving(http(200, completion(usage=None))) as server, client_of(server) as client:
        assert client.complete(REQUEST).usage.cost_usd is None


def test_a_re_ask_follows_the_question() -> None:
    request = ModelRequest("S", "U", "U", SCHEMA, 10, history=(("assistant", "bad \ud800"), ("user", "again")))
    with serving(OK) as server, client_of(server) as client:
        client.complete(request)
    roles = [message["role"] for message in server.bodies()[0]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]


def test_threads_share_as_many_connections_as_workers() -> None:
    with serving(OK) as server, client_of(server, workers=3) as client:
        threads = [threading.Thread(target=lambda: [client.complete(REQUEST) for _ in range(5)]) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.requests) == 30
    assert server.connections <= 3


def test_request_id_and_rate_headers_come_with_the_reply() -> None:
    headers = {
        "x_request_id": "req_1",
        "x_ratelimit_limit_requests": "500",
        "x_ratelimit_remaining_requests": "499",
        "x_ratelimit_reset_requests": "120ms",
        "x_ratelimit_limit_tokens": "30000",
        "x_ratelimit_remaining_tokens": "29000",
        "x_ratelimit_reset_tokens": "6m0s",
    }
    with serving(http(200, completion(), **headers)) as server, client_of(server) as client:
        reply = client.complete(REQUEST)
    limits = reply.limits
    assert reply.request_id == "req_1"
    assert (limits.limit_requests, limits.remaining_requests, limits.reset_requests) == (500, 499, 0.12)
    assert (limits.limit_tokens, limits.remaining_tokens, limits.reset_tokens) == (30000, 29000, 360.0)


@pytest.mark.parametrize(
    ("reply", "error", "said"),
    [
        (http(401, refusal("invalid_api_key", f"Incorrect API key provided: {KEY}")), AuthenticationFailed, "key"),
        (http(403, refusal()), AuthenticationFailed, "403"),
        (http(404, refusal("model_not_found", "The model `x` does not exist")), ModelUnusable, "gpt-4o"),
        (http(404, b"<html>not found</html>"), ModelUnusable, "base URL"),
        (http(405, b""), ModelUnusable, "405"),
        (http(307, b"", location="http://127.0.0.1:1/"), ModelUnusable, "redirect"),
        (http(400, refusal("context_length_exceeded")), PromptTooLong, "too long"),
        (
            http(400, {"error": {"code": 400, "message": "x", "type": "exceed_context_size_error"}}),
            PromptTooLong,
            "too long",
        ),
        (http(400, {"message": "This model's maximum context length is 4096 tokens, max_tokens"}), PromptTooLong, ""),
        (http(413, b"big"), PromptTooLong, "413"),
        (http(429, refusal("rate_limit_exceeded", "Request too large for gpt-4o on TPM")), PromptTooLong, ""),
        (http(400, refusal("content_filter")), PermanentLLMError, "filter"),
        (http(400, refusal(None, "something else")), PermanentLLMError, "something else"),
        (http(422, {"detail": [{"loc": ["body"]}]}), PermanentLLMError, "422"),
        (http(400, refusal("invalid_value", "unknown", "model")), ModelUnusable, "unknown"),
        (http(402, refusal()), QuotaExhausted, "credit"),
        (http(429, refusal("insufficient_quota", "You exceeded your current quota")), QuotaExhausted, "quota"),
        (http(429, refusal(None, "slow down", kind="insufficient_quota")), QuotaExhausted, "quota"),
        (http(500, b"oops"), TransientLLMError, "500"),
        (http(503, {"error": "Loading model"}), TransientLLMError, "Loading model"),
        (http(408, b""), TransientLLMError, "408"),
        (http(409, b""), TransientLLMError, "409"),
        (http(200, b"<!DOCTYPE html><html></html>"), TransientLLMError, "HTML, not JSON"),
        (http(200, b"hello"), TransientLLMError, "not JSON"),
        (http(200, {"answer": 1}), PermanentLLMError, "choices"),
        (http(200, [1]), PermanentLLMError, "choices"),
        (http(200, {"error": {"code": 429, "message": "upstream"}}), RateLimited, "upstream"),
        (http(200, {"error": {"message": "upstream"}}), TransientLLMError, "upstream"),
        (b"", TransientLLMError, "without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{" + CUT, TransientLLMError, "cannot be reached"),
        (b"garbage\r\n\r\n" + CUT, TransientLLMError, "cannot be reached"),
    ],
)
def test_each_failure_has_its_class_and_one_sentence(reply: bytes, error: type[Exception], said: str) -> None:
    with serving(reply) as server, client_of(server) as client, pytest.raises(ThresherError) as caught:
        client.complete(REQUEST)
    assert type(caught.value) is error
    assert said in str(caught.value)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_accepts_and_never_answers_ends_in_the_request_timeout() -> None:
    error = error_of(HANG, timeout=0.2)
    assert type(error) is TransientLLMError
    assert "did not answer within 0.2 s" in str(error)
    assert error.__cause__ is not None


def test_a_server_that_sends_a_blank_now_and_then_ends_in_the_request_timeout_too() -> None:
    error = error_of(TRICKLE, timeout=0.3)
    assert type(error) is TransientLLMError
    assert "did not answer within 0.3 s" in str(error)


def test_nobody_listening_is_transient_during_a_run() -> None:
    with serving(OK) as server:
        port = server.port
    client = OpenAIClient("m", OpenAIServer(KEY, f"http://127.0.0.1:{port}/v1"))
    with pytest.raises(TransientLLMError, match="cannot be reached"):
        client.complete(REQUEST)
    client.close()


def test_a_client_goes_on_after_a_failure() -> None:
    with serving(b"", http(500), OK) as server, client_of(server) as client:
        for _ in range(2):
            with pytest.raises(TransientLLMError):
                client.complete(REQUEST)
        assert client.complete(REQUEST).text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.25", "x_ratelimit_reset_requests": "9s"}, 0.25),
        (
            {
                "x_ratelimit_remaining_requests": "0",
                "x_ratelimit_reset_requests": "1s",
                "x_ratelimit_reset_tokens": "6m0s",
            },
            None,  # when all is back: how long one request has to wait, the limiter works out
        ),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "-3"}, 0.0),
        ({}, None),
    ],
)
def test_a_429_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    error = error_of(http(429, refusal("rate_limit_exceeded"), **headers))
    assert isinstance(error, RateLimited)
    assert error.retry_after == seconds
    assert error.limits is not None
    assert (error.limits.reset_requests is None) is ("x_ratelimit_reset_requests" not in headers)


def test_a_retry_after_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = error_of(http(429, b"", retry_after=date))
    assert isinstance(error, RateLimited)
    assert error.retry_after is not None
    assert 50 < error.retry_after <= 60


def test_a_503_passes_its_retry_after_on() -> None:
    error = error_of(http(503, b"", retry_after="4"))
    assert isinstance(error, TransientLLMError)
    assert error.retry_after == 4.0


@pytest.mark.parametrize(
    ("answer", "text", "finish_reason"),
    [
        (completion(None), "", "stop"),
        (completion(""), "", "stop"),
        (completion(choices=[]), "", ""),
        (completion(choices=[None]), "", ""),
        (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "stop"),
        (completion("cut", choice={"finish_reason": "length"}), "cut", "length"),
    ],
)
def test_odd_answers_come_through_with_their_usage(answer: dict, text: str, finish_reason: str) -> None:
    with serving(http(200, answer)) as server, client_of(server) as client:
        reply = client.complete(REQUEST)
    assert (reply.text, reply.finish_reason, reply.usage.prompt_tokens) == (text, finish_reason, 1000)


def test_a_refusal_comes_through_as_such() -> None:
    with serving(http(200, completion(None, message={"refusal": "I cannot"}))) as server, client_of(server) as client:
        assert client.complete(REQUEST).refusal == "I cannot"


def test_compressed_and_chunked_replies_are_read() -> None:
    body = gzip.compress(json.dumps(completion()).encode())
    halves = body[: len(body) // 2], body[len(body) // 2 :]
    chunks = b"".join(f"{len(half):x}\r\n".encode() + half + b"\r\n" for half in halves) + b"0\r\n\r\n"
    reply = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    with serving(reply) as server, client_of(server) as client:
        assert client.complete(REQUEST).text == '{"node_type":"A"}'


class TestFallbacks:
    def test_a_server_that_wants_the_other_name_of_the_limit_gets_it_from_then_on(self) -> None:
        no = http(400, refusal("unsupported_parameter", "Unsupported parameter: 'max_tokens'", "max_tokens"))
        with serving(no, OK) as server, client_of(server) as client:
            assert client.complete(REQUEST).usage.requests == 2
            assert client.complete(REQUEST).usage.requests == 1
            assert len(client.fallbacks) == 1
            assert "max_completion_tokens" in client.fallbacks[0]
        assert [body.get("max_completion_tokens") for body in server.bodies()] == [None, 100, 100]

    def test_a_model_that_takes_no_temperature_gets_none(self) -> None:
        no = http(400, refusal("unsupported_value", "'temperature' does not support 0", "temperature"))
        with serving(no, OK) as server, client_of(server) as client:
            client.complete(REQUEST)
        assert "temperature" not in server.bodies()[1]

    def test_a_server_without_structured_outputs_gets_the_schema_in_the_prompt(self) -> None:
        no = http(400, {"message": "response_format type json_schema is not supported"})
        with serving(no, no, OK) as server, client_of(server) as client:
            client.complete(REQUEST)
            assert [line.split(":")[0] for line in client.fallbacks] == [
                "asked for json_schema",
                "asked for json_object with the schema in the prompt",
            ]
        assert server.bodies()[2]["response_format"] == {"type": "json_object"}
        assert '"node_type"' in server.bodies()[2]["messages"][0]["content"]

    def test_a_server_that_refuses_every_form_ends_in_an_error_after_a_bounded_number_of_requests(self) -> None:
        no = http(400, refusal("x", "no response_format", "response_format"))
        with serving(no) as server, client_of(server) as client, pytest.raises(ModelUnusable):
            client.complete(REQUEST)
        assert len(server.requests) == 4

    def test_nothing_is_reported_where_nothing_fell_back(self) -> None:
        with serving(http(400, refusal(None, "something else")), OK) as server, client_of(server) as client:
            with pytest.raises(PermanentLLMError):
                client.complete(REQUEST)
            client.complete(REQUEST)
            assert client.fallbacks == ()

    def test_a_failure_that_may_pass_changes_no_form(self) -> None:
        reply = http(500, refusal(None, "temperature", "temperature"))
        with serving(reply) as server, client_of(server) as client, pytest.raises(TransientLLMError):
            client.complete(REQUEST)
        assert len(server.requests) == 1


class TestCheck:
    @pytest.mark.parametrize("reply", [http(200, {"data": []}), http(404), http(405), http(500), http(429)])
    def test_a_server_that_answers_passes(self, reply: bytes) -> None:
        with serving(reply) as server, client_of(server) as client:
            client.check()
        assert server.requests[0][0] == "GET /v1/models HTTP/1.1"

    @pytest.mark.parametrize(
        ("reply", "error", "said"),
        [
            (http(401), AuthenticationFailed, "key"),
            (http(403), AuthenticationFailed, "key"),
            (http(200, b"<html>", content_type="text/html"), ModelUnreachable, "HTML"),
            (http(302, b"", location="http://user:secret@host/login"), ModelUnreachable, "http://host"),
            (b"", ModelUnreachable, "without an answer"),
            (HANG, ModelUnreachable, "did not answer"),
        ],
    )
    def test_what_makes_asking_pointless_is_said_before_the_run(
        self, reply: bytes, error: type[Exception], said: str
    ) -> None:
        with (
            serving(reply) as server,
            client_of(server, timeout=0.5 if reply == HANG else 30.0) as client,
            pytest.raises(error, match=said) as caught,
        ):
            client.check()
        assert "secret" not in str(caught.value)

    def test_nobody_listening_is_unreachable(self) -> None:
        with serving(OK) as server:
            address = server.base_url
        client = OpenAIClient("m", OpenAIServer(None, address))
        with pytest.raises(ModelUnreachable, match=r"127\.0\.0\.1"):
            client.check()
        client.close()


class TestConfiguration:
    @pytest.mark.parametrize(
        "server",
        [
            OpenAIServer(None, None),
            OpenAIServer("", None),
            OpenAIServer(KEY, "localhost:8000/v1"),
            OpenAIServer(KEY, "ftp://host/v1"),
            OpenAIServer(KEY, "http://"),
            OpenAIServer("key\nwith newline", "http://host/v1"),
            OpenAIServer("schlüssel€", "http://host/v1"),
            AzureServer("host", KEY, "d", "2024-10-21"),
        ],
    )
    def test_what_cannot_be_used_is_refused_without_showing_the_key(
        self, server: OpenAIServer | AzureServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        with pytest.raises(BadConfiguration) as caught:
            OpenAIClient("m", server)
        assert KEY not in str(caught.value)

    def test_azure_is_asked_at_its_deployment_with_its_own_header(self) -> None:
        with serving(OK, http(200, {"data": []})) as server:
            azure = AzureServer(f"http://127.0.0.1:{server.port}", KEY, "my-deployment", "2024-10-21")
            client = OpenAIClient("my-deployment", azure)
            client.complete(REQUEST)
            client.check()
            client.close()
        (line, headers, _), (models, _, _) = server.requests
        assert line.startswith("POST /openai/deployments/my-deployment/chat/completions?api-version=2024-10-21")
        assert headers["api-key"] == KEY
        assert models.startswith("GET /openai/models?api-version=2024-10-21")
        assert server.bodies()[0]["response_format"] == SCHEMA.response_format
        assert client.provider == "azure"

    def test_credentials_in_an_address_are_not_shown(self) -> None:
        client = OpenAIClient("m", OpenAIServer(KEY, "http://user:secret@127.0.0.1:1/v1"))
        with pytest.raises(TransientLLMError) as caught:
            client.complete(REQUEST)
        assert "secret" not in str(caught.value)
        client.close()

    def test_models_of_this_machine_are_free(self) -> None:
        with serving(OK) as server:
            client = OpenAIClient("x", OpenAIServer(KEY, server.base_url), prices=Prices.free())
            assert client.complete(REQUEST).usage.cost_usd == 0.0
            client.close()

    def test_importing_the_room_does_not_import_the_sdk(self) -> None:
        modules = [
            "client",
            "evidence",
            "grounding",
            "masking",
            "prices",
            "repair",
            "schema",
            "structured",
            "providers.openai",
        ]
        imports = "; ".join(f"import thresher.llm.{module}" for module in modules)
        code = f"import sys; {imports}; sys.exit('openai' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_keys_do_not_stand_in_representations() -> None:
    shown: list[Callable[[], str]] = [OpenAIServer(KEY).__repr__, AzureServer("e", KEY, "d", "v").__repr__]
    assert not any(KEY in show() for show in shown)
