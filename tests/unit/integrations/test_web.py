"""Addresses of other people's servers: which may be spoken to, which are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thresher.core.errors import BadInput
from thresher.integrations.web import check_address, is_reachable, name_of, normalised, parse_networks

PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),  # noqa: S104
    *("255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1"),
    *("2002:7f00:1::", "198.18.0.1"),
)


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_spoken_to_in_whatever_way_they_are_written(address: str) -> None:
    assert not is_reachable(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are(address: str) -> None:
    assert is_reachable(address, ())


def test_only_the_networks_that_are_named_are_let_through() -> None:
    allowed = parse_networks("127.0.0.0/8, fd00:1::/32")
    assert is_reachable("127.0.0.1", allowed)
    assert is_reachable("::ffff:127.0.0.1", allowed)
    assert is_reachable("fd00:1::7", allowed)
    assert not is_reachable("10.0.0.1", allowed)
    assert not is_reachable("fd00:2::7", allowed)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_within_ipv6_is_what_it_stands_for(address: object) -> None:
    assert is_reachable(f"::ffff:{address}", ()) is is_reachable(str(address), ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://Example.com/a/", "http://example.com/a"),
        ("https://example.com:443/a#top", "https://example.com/a"),
        ("http://example.com/a?utm_source=x&b=1&gclid=2", "http://example.com/a?b=1"),
    ],
)
def test_addresses_of_the_same_page_are_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize("other", ["https://example.com/a", "http://example.com:81/a", "http://example.com/a?b=1"])
def test_addresses_of_other_pages_are_not(other: str) -> None:
    assert normalised("http://example.com/a") != normalised(other)


@given(st.text(max_size=60))
def test_whatever_is_no_address_is_said_to_be_none(text: str) -> None:
    try:
        check_address(text)
    except BadInput:
        return
    assert normalised(text) == normalised(normalised(text))
    assert name_of(text)


@pytest.mark.parametrize("address", ["ftp://example.com/a", "//example.com/a", "http://", "http://a b/", "http://u@h/"])
def test_what_is_no_web_page_or_holds_a_user_is_refused(address: str) -> None:
    with pytest.raises(BadInput):
        check_address(address)
