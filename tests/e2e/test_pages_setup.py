"""Node configurations and keys on the pages, by a visitor without scripts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from command import Thresher
from page_visitor import Visitor
from server import RunningServer, running_server

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(Thresher(tmp_path_factory.mktemp("setup"))) as server:
        yield server


@pytest.fixture
def visitor(server: RunningServer) -> Iterator[Visitor]:
    with Visitor(server) as visitor:
        yield visitor


def test_a_node_configuration_is_made_changed_and_deleted(visitor: Visitor) -> None:
    form = visitor.open("/node-configurations/new").form("/node-configurations")
    typed = {"path": "L/Pax", "message": "OrderViewRS", "instructions": EVIL, "schema": '{"type": "object"}'}
    broken = visitor.send(form, **{**typed, "schema": "{"})
    assert (broken.status, "The schema is no JSON" in broken.text) == (422, True)
    assert broken.tree.xpath("//textarea[@id='instructions']")[0].text == EVIL
    listed = visitor.send(form, **typed)
    assert listed.texts("//td[1]") == ["L/Pax"]
    assert listed.texts("//td[@data-label='Instructions']") == [EVIL]
    twice = visitor.send(form, **typed)
    assert (twice.status, "There is a configuration of L/Pax" in twice.text) == (422, True)
    page = visitor.follow(listed, "L/Pax")
    changed = visitor.send(page.forms_of_main()[0], version="19.2", enabled=None)
    assert changed.texts("//td[@data-label='For']") == ["OrderViewRS 19.2"]
    assert changed.texts("//td[@data-label='State']") == ["off"]
    again = visitor.follow(changed, "L/Pax")
    assert "Nothing configured" in visitor.send(again.form("/delete")).text


def test_node_configurations_are_imported_and_exported(visitor: Visitor) -> None:
    form = visitor.open("/node-configurations").form("/import")
    refused = visitor.send(form, yaml="nodes:\n  - pth: L/Pax\n")
    assert refused.status == 422
    assert "Nothing was imported" in refused.text
    assert refused.tree.xpath("//textarea[@id='yaml']")[0].text.startswith("nodes:")
    listed = visitor.send(form, yaml="nodes:\n  - path: L/Pax\n  - path: L/Bag\n")
    assert listed.texts("//td[1]") == ["L/Bag", "L/Pax"]
    exported = visitor.client.get("/node-configurations/export.yaml")
    assert exported.headers["content-type"].startswith("application/yaml")
    replaced = visitor.send(form, yaml=exported.text.replace("L/Bag", "L/Seat"), replace_all="on")
    assert replaced.texts("//td[1]") == ["L/Pax", "L/Seat"]


def test_the_first_key_closes_the_door_and_opens_it(tmp_path: Path) -> None:
    with running_server(Thresher(tmp_path)) as server, Visitor(server) as visitor:
        page = visitor.open("/keys")
        assert "There are no keys yet" in page.text
        assert visitor.send(page.form("/keys"), name=" ").status == 422
        made = visitor.send(page.form("/keys"), name=EVIL, days="30")
        (secret,) = made.tree.xpath("//input[@id='secret']/@value")
        assert "from now on nobody gets in without one" in made.text
        assert made.answer.headers["cache-control"] == "no-store"
        signing_in = visitor.open("/keys")
        assert signing_in.address.startswith("/sign-in")
        keys = visitor.send(signing_in.form("/sign-in"), key=secret)
        assert keys.address == "/keys"
        assert secret not in keys.text
        assert keys.texts("//td[1]/strong") == [EVIL]
        second = visitor.send(keys.form("/keys"), name="second", days="")
        assert second.status == 200
        listed = server.client.get("/api/v1/runs/", headers={"Authorization": f"Bearer {secret}"})
        assert listed.status_code == 200
        after = visitor.send(visitor.open("/keys").tree.xpath("//tr[contains(., 'yours')]//form")[0])
        assert after.address.startswith("/sign-in")


def test_a_key_that_ends_makes_none_that_lasts_longer(tmp_path: Path) -> None:
    thresher = Thresher(tmp_path)
    secret = thresher("keys", "create", "short", "--role", "write", "--days", "2", "--workspace", "acme").out.strip()
    other = thresher("keys", "create", "theirs", "--role", "write", "--workspace", "theirs", "--json").json
    with running_server(thresher) as server, Visitor(server) as visitor:
        page = visitor.send(visitor.open("/sign-in", next="/keys").form("/sign-in"), key=secret)
        assert page.texts("//td[1]/strong") == ["short"]
        visitor.send(page.form("/keys"), name="longer", role="write", days="300")
        (made,) = [key for key in thresher("keys", "list", "--json").json if key["name"] == "longer"]
        assert datetime.fromisoformat(made["expires_at"]) < datetime.now(UTC) + timedelta(days=3)
        assert made["workspace"] == "acme"
        token = dict(page.form("/keys").form_values())
        assert visitor.client.post(f"/keys/{other['key_id']}/revoke", data=token).status_code == 404
