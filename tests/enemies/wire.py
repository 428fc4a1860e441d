"""HTTP byte by byte, as enemies write it: a client library would mend or refuse most of what they send."""

import contextlib
import socket
from email.message import Message
from http.client import HTTPResponse
from io import BytesIO
from typing import NamedTuple, cast

from tests.service.stack import Stack


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


class _Received(BytesIO):
    """What came over a connection, for HTTPResponse, which would take more of a socket than its own answer."""

    def makefile(self, mode: str) -> "_Received":
        return self

    def close(self) -> None:
        """Another answer may follow."""


def head(method: bytes, target: bytes, *fields: bytes) -> bytes:
    """A request's head; `fields` are whole lines."""
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""])


def exchange(port: int, sent: bytes) -> bytes:
    """All that comes back until the other side closes the connection, which it must do within 20 s."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was read
            connection.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := connection.recv(65536):
                received += data
        return received


def answers(received: bytes, method: str = "GET") -> list[Answer]:
    """The answers that one connection brought, in their order. http.client's exceptions where they are none."""
    stream = _Received(received)
    found = []
    while stream.tell() < len(received):
        response = HTTPResponse(cast(socket.socket, stream), method=method)
        response.begin()
        found.append(Answer(response.status, response.headers, response.read()))
    return found


def ask(stack: Stack, request: bytes, method: str = "GET") -> Answer:
    """The only answer, through nginx, to a request that asks for the connection to be closed, or is refused so."""
    [answer] = answers(exchange(stack.port, request), method)
    return answer
