"""Readers who leave: nothing is computed for them any longer.

The kernel says when the other side has closed a connection, which nginx does as soon as its reader has gone. A thread
waits for that, for all connections at once; without it, who waits in the queue would be missed only at the end.
"""

import select
import threading
from contextlib import suppress

from flask import Flask, Response, current_app, request

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
                self._watched[connection].append(generation)
                self._epoll.modify(connection, _GONE | select.EPOLLONESHOT)  # it may have spoken already
            else:
                self._watched[connection] = [generation]
                self._epoll.register(connection, _GONE | select.EPOLLONESHOT)

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


def register(app: Flask) -> None:
    """Let `cancel_if_reader_leaves` work in requests to `app`."""
    app.extensions["departures"] = Departures()

    @app.after_request
    def forget_when_sent(response: Response) -> Response:
        if (connection := _connection()) is not None:
            response.call_on_close(lambda: departures.forget(connection))
        return response

    departures: Departures = app.extensions["departures"]


def cancel_if_reader_leaves(generation: Generation) -> None:
    """From now on and until the answer to this request has been sent."""
    if (connection := _connection()) is not None:
        current_app.extensions["departures"].watch(connection, generation)


def _connection() -> int | None:
    """The file descriptor of this request's connection, where the server tells it."""
    for server in ("gunicorn", "werkzeug"):
        if found := request.environ.get(f"{server}.socket"):
            return int(found.fileno())
    with suppress(ModuleNotFoundError):
        import uwsgi  # what uWSGI gives the application that it runs

        return int(uwsgi.connection_fd())
    return None
