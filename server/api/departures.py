"""Readers who leave: nothing is computed for them any longer.

The kernel says when the other side has closed a connection, which nginx does as soon as its reader has gone. A thread
waits for that, for all connections at once; without it, who waits in the queue would be missed only at the end.
"""

import select
import threading
from contextlib import suppress

from flask import Flask, Response, after_this_request, current_app, request

from server.engine import Generation

# RDHUP: it was closed for writing over there, which is all that one hears of a close over TCP.
_GONE = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Departures:
    """Watches connections. Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, list[Generation]] = {}
        self._epoll = select.epoll()
        self._thread = threading.Thread(target=self._run, name="departures", daemon=True)

    def watch(self, connection: int, generation: Generation) -> None:
        """Cancel the generation if the other side of the connection, a file descriptor, closes it."""
        with self._lock:
            if not self._thread.is_alive():
                self._thread.start()
            if connection in self._watched:
                self._epoll.unregister(connection)  # it may have spoken already
            self._epoll.register(connection, _GONE | select.EPOLLONESHOT)
            self._watched.setdefault(connection, []).append(generation)

    def forget(self, connection: int) -> None:
        """Watch the connection no more; necessary before it is closed here. Harmless if it was not watched."""
        with self._lock:
            if self._watched.pop(connection, None):
                self._epoll.unregister(connection)

    def _run(self) -> None:
        while True:
            for connection, _ in self._epoll.poll():
                with self._lock:
                    # By now the number may belong to the next reader, who is still there.
                    for generation in self._watched.get(connection, []) if _is_gone(connection) else []:
                        generation.cancel()


def _is_gone(connection: int) -> bool:
    poll = select.poll()
    poll.register(connection, _GONE)
    return bool(poll.poll(0))


class ReaderLeftError(Exception):
    """Whoever asked has closed the connection, or its sending half, before the answer was done."""


def register(app: Flask) -> None:
    """Let `cancel_if_reader_leaves` work in requests to `app`."""
    app.extensions["departures"] = Departures()

    @app.errorhandler(ReaderLeftError)
    def reader_left(error: ReaderLeftError) -> Response:
        return Response(status=499)  # nginx's own number for it; only logs see it

    @app.after_request
    def forget_when_sent(response: Response) -> Response:
        if (connection := _connection()) is not None:
            response.call_on_close(lambda: departures.forget(connection))
        return response

    departures: Departures = app.extensions["departures"]


def cancel_if_reader_leaves(generation: Generation) -> None:
    """From now on; and at the latest when the answer to this request has been sent, or nobody wanted its body."""

    @after_this_request
    def cancel_when_sent(response: Response) -> Response:
        response.call_on_close(generation.cancel)
        return response

    if (connection := _connection()) is not None:
        current_app.extensions["departures"].watch(connection, generation)


def require_reader(*generations: Generation) -> None:
    """Raise ReaderLeftError where a generation was given up, and so is no answer."""
    if any(generation.cancelled for generation in generations):
        raise ReaderLeftError


def _connection() -> int | None:
    """The file descriptor of this request's connection, where the server tells it."""
    for server in ("gunicorn", "werkzeug"):
        if found := request.environ.get(f"{server}.socket"):
            return int(found.fileno())
    with suppress(ModuleNotFoundError):
        import uwsgi  # what uWSGI gives the application that it runs

        return int(uwsgi.connection_fd())
    return None
