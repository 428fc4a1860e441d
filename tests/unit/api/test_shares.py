"""One address may not take what is for all."""

import threading
from collections.abc import Callable

import pytest
from flask_openapi3 import OpenAPI

from server.api.shares import Caller, Shares, network_of

ASH = Caller("192.0.2.7", at_once=3)


def test_a_caller_has_so_many_at_once_and_gets_those_back_that_have_ended() -> None:
    shares = Shares()
    assert shares.take(ASH, 2)
    assert not shares.take(ASH, 2), "not even one of them"
    assert shares.take(ASH, 1)
    assert shares.take(Caller("192.0.2.8", at_once=3), 3), "another's share is another's"
    shares.give_back(ASH, 2)
    assert shares.take(ASH, 2)
    assert shares.take(Caller("192.0.2.9", at_once=0), 1000), "0 is no limit"


def test_nothing_is_miscounted_by_many_at_once() -> None:
    shares = Shares()
    caller = Caller("192.0.2.7", at_once=8)

    def come_and_go() -> None:
        for _ in range(2000):
            if shares.take(caller, 1):
                shares.give_back(caller, 1)

    threads = [threading.Thread(target=come_and_go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shares.take(caller, 8)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_whoever_has_one_ipv6_address_has_a_network_of_them(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("path", ["/generate?nsamples=2&stream=true", "/generate?nsamples=2"])
def test_who_has_too_many_is_told_to_wait_and_has_none_when_they_have_been_sent(
    make_app: Callable[..., OpenAPI], path: str
) -> None:
    app = make_app(address_at_once=2, max_samples=2, length=5)
    shares, client = app.extensions["shares"], app.test_client()
    elsewhere = Caller("127.0.0.1", at_once=2)  # the test client's address, with a text on another connection
    assert shares.take(elsewhere, 1)
    refused = client.get(path)
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "2")
    assert refused.json
    assert refused.json["detail"].startswith("You may have 2 texts at once, and have too many for 2 more")
    body = {"model": app.extensions["serving"].current.model, "prompt": "Ash", "n": 2}
    asked = client.post("/v1/completions", json=body)
    assert asked.json
    assert (asked.status_code, asked.json["error"]["type"]) == (429, "rate_limit_error")
    assert client.get(path, environ_base={"REMOTE_ADDR": "192.0.2.9"}, buffered=True).status_code == 200
    shares.give_back(elsewhere, 1)
    for _ in range(3):
        assert client.get(path, buffered=True).status_code == 200


def test_a_refused_request_takes_no_share(make_app: Callable[..., OpenAPI]) -> None:
    client = make_app(address_at_once=2, max_samples=2, length=5).test_client()
    for _ in range(3):
        assert (
            client.get("/generate", query_string={"prefix": "Ash " * 10_000}, buffered=True).status_code
            == 422
        )
    assert client.get("/generate?nsamples=2").status_code == 200
