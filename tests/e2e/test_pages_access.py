"""Who gets into the pages, and what keeps others from using a visitor's browser."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx2
import pytest
from command import Thresher
from server import RunningServer, running_server

from thresher.web.visits import COOKIE

SMALL = b"<PaxList><Pax><Id>P1</Id></Pax></PaxList>"


def key(thresher: Thresher, *options: str) -> str:
    made = thresher("keys", "create", "test", *options)
    assert made.code == 0, made.err
    return made.out.strip()


def token_in(page: httpx2.Response) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


def signed_in(server: RunningServer, secret: str, following: str = "/runs") -> httpx2.Response:
    page = server.client.get("/sign-in", params={"next": following})
    return server.client.post("/sign-in", data={"form_token": token_in(page), "key": secret, "next": following})


@pytest.fixture
def server(thresher: Thresher) -> Iterator[RunningServer]:
    with running_server(thresher) as server:
        yield server


def test_every_page_forbids_what_it_does_not_need(server: RunningServer) -> None:
    for address in ("/", "/runs", "/runs/unknown", "/sign-in", "/static/thresher.css"):
        headers = server.client.get(address).headers
        policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    page = server.client.get("/").text
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page)


def test_without_keys_the_visitor_at_this_machine_needs_none(server: RunningServer) -> None:
    answer = server.client.get("/runs")
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(COOKIE)
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


def test_a_name_that_somebody_else_has_made_lead_here_opens_nothing(server: RunningServer) -> None:
    assert server.client.get("/runs", headers={"host": "rebound.example"}).status_code == 403


def test_a_form_without_its_token_changes_nothing(server: RunningServer) -> None:
    run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
    page = server.client.get(f"/runs/{run_id}")
    for forged in ({}, {"form_token": "x"}, {"form_token": token_in(page)[:-1] + "é"}):
        assert server.client.post(f"/runs/{run_id}/delete", data=forged).status_code == 403
        assert server.client.post("/sample", data=forged).status_code == 403
        upload = server.client.post("/documents", data=forged, files={"file": ("a.xml", SMALL)})
        assert upload.status_code == 403
    assert server.client.post(f"/runs/{run_id}/delete", data={"form_token": token_in(page)}).status_code == 303
    assert server.client.get(f"/runs/{run_id}").status_code == 404


def test_the_token_of_another_visit_is_none(server: RunningServer) -> None:
    token = token_in(server.client.get("/"))
    server.client.cookies.clear()
    assert server.client.post("/sample", data={"form_token": token}).status_code == 403


@pytest.mark.parametrize("said", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}])
def test_what_another_site_has_a_browser_send_is_refused(server: RunningServer, said: dict[str, str]) -> None:
    form = {"form_token": token_in(server.client.get("/"))}
    assert server.client.post("/sample", data=form, headers=said).status_code == 403
    assert (
        server.client.post("/documents", data=form, files={"file": ("a.xml", SMALL)}, headers=said).status_code == 403
    )
    assert server.client.post("/sample", data=form).status_code == 303


def test_with_keys_people_sign_in_and_out(thresher: Thresher, server: RunningServer) -> None:
    secret = key(thresher, "--workspace", "acme")
    answer = server.client.get("/runs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fruns")
    refused = signed_in(server, "thr_wrong")
    assert refused.status_code == 401
    assert "not valid" in refused.text
    answer = signed_in(server, secret)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs")
    page = server.client.get("/runs")
    assert page.status_code == 200
    assert "acme" in page.text
    assert server.client.post("/sign-out", data={"form_token": token_in(page)}).status_code == 303
    assert server.client.get("/runs").status_code == 303


def test_a_revoked_key_ends_its_visits(thresher: Thresher, server: RunningServer) -> None:
    signed_in(server, key(thresher))
    assert server.client.get("/runs").status_code == 200
    (listed,) = thresher("keys", "list", "--json").json
    thresher("keys", "revoke", listed["key_id"])
    assert server.client.get("/runs").status_code == 303
    part = server.client.get("/runs", headers={"hx-request": "true"})
    assert part.headers["hx-redirect"] == "/sign-in?next=%2F"


def test_a_visit_outlives_the_server(thresher: Thresher) -> None:
    secret = key(thresher)
    with running_server(thresher) as first:
        signed_in(first, secret)
        cookies = dict(first.client.cookies)
    with running_server(thresher) as second:
        header = {"cookie": f"{COOKIE}={cookies[COOKIE]}".encode()}
        assert second.client.get("/runs", headers=header).status_code == 200
        second.client.cookies.clear()
        visit_id, key_id, expires, mac = cookies[COOKIE].split(".")
        for forged in (f"{visit_id}.{key_id}.{int(expires) + 1}.{mac}", f"{visit_id}.-.{expires}.{mac}", "é.x", "...."):
            header = {"cookie": f"{COOKIE}={forged}".encode()}
            assert second.client.get("/runs", headers=header).status_code == 303


@pytest.mark.parametrize("address", ["https://evil.example", "//evil.example", "/\\evil.example", "/a\nb", "runs"])
def test_signing_in_leads_nowhere_else(thresher: Thresher, server: RunningServer, address: str) -> None:
    answer = signed_in(server, key(thresher), address)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_key_to_read_is_offered_nothing_else(thresher: Thresher, server: RunningServer) -> None:
    run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
    source_id = server.run(run_id)["source_id"]
    signed_in(server, key(thresher, "--role", "read"))
    page = server.client.get(f"/documents/{source_id}")
    assert "Start" not in page.text
    form = {"form_token": token_in(page)}
    assert server.client.post(f"/documents/{source_id}/runs", data=form).status_code == 403
    assert server.client.post(f"/runs/{run_id}/delete", data=form).status_code == 403
    assert server.client.post("/documents", data=form, files={"file": ("a.xml", SMALL)}).status_code == 403


def test_what_belongs_to_another_workspace_is_not_there(thresher: Thresher, server: RunningServer) -> None:
    run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
    source_id = server.run(run_id)["source_id"]
    signed_in(server, key(thresher, "--workspace", "theirs"))
    for address in (f"/runs/{run_id}", f"/runs/{run_id}/facts", f"/runs/{run_id}/facts/1", f"/documents/{source_id}"):
        assert server.client.get(address).status_code == 404
    assert run_id not in server.client.get("/runs").text


def test_the_files_are_those_of_the_api(server: RunningServer) -> None:
    run_id = server.upload(SMALL, query={"wait": 30}).json()["run_id"]
    for form in ("json", "jsonl", "csv"):
        ours = server.client.get(f"/runs/{run_id}/export", params={"format": form, "grounded": "true"})
        theirs = server.client.get(f"/api/v1/runs/{run_id}/facts", params={"format": form})
        assert (ours.text, ours.headers["content-disposition"]) == (theirs.text, theirs.headers["content-disposition"])


def test_the_pages_leave_all_other_addresses_to_the_api(server: RunningServer) -> None:
    assert server.client.get("/nowhere").headers["content-type"] == "application/problem+json"
    assert server.client.get("/health").json() == {"status": "ok"}
    assert server.client.get("/runs/unknown").headers["content-type"].startswith("text/html")
