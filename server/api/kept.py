"""Answers that need not be made again: with a seed, the same question has the same answer while the checkpoint stays.

So a permalink that many open is written once. The last answers are kept here, for streams and other forms alike; in
front, nginx keeps what GET was answered with, and asks from time to time whether that holds (RFC 9110, section 13).
"""

import hashlib
import threading
from collections import OrderedDict

from flask import Flask, Response, current_app, request

from server.api.schemas import GenerateAnswer

FRESH_SECONDS = 10  # for which nginx does not ask
MOST_BYTES = 4 * 2**20  # of all that is kept here; PROCESS_BYTES of server/engine has them
LARGEST_PART = 1 / 16  # of it, that one answer may take: or a few would drive all others out


class Kept:
    """The last answers by what they answer: `most` of them, and `most_bytes` as JSON. Safe to use from every thread."""

    def __init__(self, most: int, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, bytes] = OrderedDict()  # as JSON, whose size is known
        self._bytes = 0

    def find(self, name: str | None) -> GenerateAnswer | None:
        """The answer, if it is here."""
        with self._lock:
            if name is None or name not in self._answers:
                return None
            self._answers.move_to_end(name)
            written = self._answers[name]
        return GenerateAnswer.model_validate_json(written)

    def keep(self, name: str | None, answer: GenerateAnswer) -> None:
        """Keep it, in the place of those that nobody has asked for for the longest time; not without a name."""
        if name is None:
            return
        written = answer.model_dump_json().encode()
        if len(written) > self._most_bytes * LARGEST_PART:
            return
        with self._lock:
            self._bytes += len(written) - len(self._answers.pop(name, b""))
            self._answers[name] = written
            while len(self._answers) > self._most or self._bytes > self._most_bytes:
                _, oldest = self._answers.popitem(last=False)
                self._bytes -= len(oldest)


def name_of(*depends_on: object) -> str:
    """A name for the answer that depends on these."""
    return hashlib.blake2b(repr(depends_on).encode(), digest_size=12).hexdigest()


def register(app: Flask, most: int) -> None:
    """Let `find` and `keep` work in requests to `app`, with `most` answers."""
    app.extensions["kept"] = Kept(most)


def find(name: str | None) -> GenerateAnswer | None:
    """The answer of this name, if it is kept."""
    kept: Kept = current_app.extensions["kept"]
    return kept.find(name)


def keep(name: str | None, answer: GenerateAnswer) -> None:
    """Keep it, if it has a name."""
    kept: Kept = current_app.extensions["kept"]
    kept.keep(name, answer)


def is_known(name: str | None, form: str) -> bool:
    """Whether who asks by GET has the answer already, in this form (a media type).

    Whoever names its tag had it from here. `*` is any answer there is, and whether there is one only what is kept says.
    """
    if name is None or request.method != "GET":
        return False
    known = request.if_none_match
    return _etag(name, form) in known.as_set(include_weak=True) or (known.star_tag and find(name) is not None)


def say_whether_to_keep(response: Response, name: str | None, form: str) -> Response:
    """Tell caches of an answer in this form whether they may keep it: one without a name never, nor one to POST."""
    if name is None or request.method != "GET":
        response.headers["Cache-Control"] = "no-store"
        return response
    # Not byte for byte the same: it tells how long it took.
    response.set_etag(_etag(name, form), weak=True)
    is_for_all = current_app.extensions["gate"] is None  # where keys are asked for, nobody gets past them
    whose = f"public, max-age=0, s-maxage={FRESH_SECONDS}" if is_for_all else "private, max-age=0"
    response.headers["Cache-Control"] = whose
    return response


def _etag(name: str, form: str) -> str:
    return f"{name}-{form.rpartition('/')[2]}"
