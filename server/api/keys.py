"""Optional API keys: who asks for texts, and how often they may. Off unless POKEGEN_API_KEYS names a file.

A key comes as `Authorization: Bearer KEY` (RFC 6750, and what OpenAI's clients send) or as `X-API-Key: KEY`. How many
samples its owner may have at once is shares.py's matter.
"""

import hmac
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Collection
from http import HTTPStatus

from flask import Flask, g, request

from server.api.problems import ProblemError
from server.api.shares import Caller, network_of
from server.keys import ANONYMOUS, Keys, Limits, digest

HEADER = "X-API-Key"
CHALLENGE = 'Bearer realm="pokegen"'


class LastMinute:
    """Counts the requests of callers in the last 60 seconds, and knows no other callers. Safe to use from every thread.

    The package `limits` keeps every caller for ever and goes by the time of day, which may jump.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()  # when; who asked last is the last

    def __len__(self) -> int:
        return len(self._asked)

    def count(self, caller: str, most: int) -> float:
        """Count one more, and give 0; or, where that would be more than `most`, the seconds until it is not."""
        now = time.monotonic()
        with self._lock:
            while self._asked and next(iter(self._asked.values()))[-1] <= now - 60:
                self._asked.popitem(last=False)
            times = self._asked.setdefault(caller, deque(maxlen=most))
            if times.maxlen != most:  # of who was let in by the limits before a reload
                times = self._asked[caller] = deque(times, maxlen=most)
            if len(times) == most and (wait := times[0] + 60 - now) > 0:
                return wait
            times.append(now)  # the first of `most` goes
            self._asked.move_to_end(caller)
            return 0.0


class Gate:
    """Knows callers by their keys, and counts their requests. Safe to use from every thread."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._requests = LastMinute()

    def open_to(self, keys: Keys) -> None:
        """Take these keys from here on, and no others. Whoever has asked in the last minute has not."""
        self._keys, self._requests = keys, LastMinute()

    def find(self, key: str | None) -> tuple[str, Limits]:
        """The name of the key's entry, and what it allows. Raises ProblemError."""
        keys = self._keys
        if key is None:
            if keys.anonymous:
                return ANONYMOUS, keys.anonymous
            raise _unauthorized(
                f"This service wants an API key, as Authorization: Bearer KEY or as {HEADER}: KEY. Ask whoever runs it."
            )
        sent = digest(key)
        # All of them, also when one was found: how long it takes says nothing of which.
        found = [name for name, entry in keys.entries.items() if hmac.compare_digest(entry.sha256, sent)]
        if not found:
            raise _unauthorized(
                "This is no API key of this service. Check it, or ask whoever runs it.", wrong=True
            )
        return found[0], keys.entries[found[0]]

    def count(self, caller: str, limits: Limits) -> None:
        """One more request of this caller. Raises ProblemError where that is too many in the last minute."""
        wait = math.ceil(self._requests.count(caller, limits.per_minute))
        if not wait:
            return
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"You may ask {limits.per_minute} times a minute, and did. Try again in {wait} seconds.",
            headers={"Retry-After": str(wait)},
            code="rate_limit_exceeded",
        )


def register(app: Flask, keys: Keys | None, blueprints: Collection[str]) -> None:
    """Demand a key at all addresses of these blueprints, if there are any keys.

    To be called before what looks at the body: who has no key is told so first.
    """
    gate = app.extensions["gate"] = None if keys is None else Gate(keys)
    if gate is None:
        return

    @app.before_request
    def admit() -> None:
        if request.blueprint in blueprints and request.method != "OPTIONS":  # a preflight brings no key
            key = _sent_key()
            g.key_name, limits = gate.find(key)
            caller = network_of(request.remote_addr or "") if key is None else g.key_name
            gate.count(caller, limits)
            g.caller = Caller(caller, limits.at_once)


def _sent_key() -> str | None:
    """The key that the request came with; None where it came with none. Raises ProblemError where there are two."""
    own = request.headers.get(HEADER)
    authorization = request.headers.get("Authorization")
    if authorization is None:
        return own
    scheme, _, bearer = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise _unauthorized(
            "Authorization must be: Bearer KEY. Another scheme is not known here.", wrong=True
        )
    bearer = bearer.strip()
    if own is not None and own != bearer:
        raise _unauthorized(f"Authorization and {HEADER} hold two different keys: send one.", wrong=True)
    return bearer


def _unauthorized(detail: str, wrong: bool = False) -> ProblemError:
    challenge = f'{CHALLENGE}, error="invalid_token"' if wrong else CHALLENGE  # RFC 6750, section 3
    return ProblemError(
        HTTPStatus.UNAUTHORIZED, detail, headers={"WWW-Authenticate": challenge}, code="invalid_api_key"
    )
