"""A fair share: how many samples a caller may have at once, so that nobody takes what is for all."""

import threading
from collections import Counter
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from ipaddress import IPv4Address, ip_address, ip_network

from flask import Flask, Response, after_this_request, current_app, g, request

from server.api.problems import ProblemError
from server.settings import Settings

IPV6_PREFIX = 64  # bits; whoever has one IPv6 address has at least the rest of them
RETRY_SECONDS = 2


@dataclass(frozen=True)
class Caller:
    """Who asks, and how many samples they may have at once; 0 is no limit."""

    name: str
    at_once: int


class Shares:
    """Counts the samples that callers have at present. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, caller: Caller, n: int) -> bool:
        """Count n more for the caller, or none if that is more than they may have: then False."""
        with self._lock:
            if caller.at_once and self._taken[caller.name] + n > caller.at_once:
                return False
            self._taken[caller.name] += n
            return True

    def give_back(self, caller: Caller, n: int) -> None:
        """Count n less."""
        with self._lock:
            self._taken[caller.name] -= n
            if not self._taken[caller.name]:
                del self._taken[caller.name]


def register(app: Flask) -> None:
    """Let `take_share` work in requests to `app`."""
    app.extensions["shares"] = Shares()


def take_share(n: int) -> None:
    """Count n samples for whoever asks, until the answer has been sent. Raises ProblemError where that is too many."""
    shares: Shares = current_app.extensions["shares"]
    caller = _caller()
    if 0 < caller.at_once < n:
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"You may have {caller.at_once} texts at once: ask for no more, not {n}.",
        )
    if not shares.take(caller, n):
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"You may have {caller.at_once} texts at once, and have too many for {n} more: wait for some to end.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )

    @after_this_request
    def give_back_when_sent(response: Response) -> Response:
        response.call_on_close(partial(shares.give_back, caller, n))
        return response


def _caller() -> Caller:
    known: Caller | None = g.get("caller")  # where API keys say who asks
    if known:
        return known
    settings: Settings = current_app.extensions["settings"]
    return Caller(network_of(request.remote_addr or ""), settings.address_at_once)


def network_of(address: str) -> str:
    """The address, or of an IPv6 address its network; as it is, where it is none, as over a Unix socket."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((int(found), IPV6_PREFIX), strict=False))
