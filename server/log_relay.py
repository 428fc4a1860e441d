"""Pass log lines on without ever letting their writers wait.

    (nginx & uwsgi) 2>&1 | python -m server.log_relay >&2

nginx and uWSGI write a line where it arises, and wait until it is written. Where nobody reads any more (a pager that
stands still, a collector that hangs) or the disk is full, they would stand still as well, or lose their output for
good. So what cannot be written is kept up to a limit, then thrown away and counted.
"""

import json
import os
import select
import threading
import time

KEPT_BYTES = 2**20
LAST_SECONDS = 2.0  # after the writers have ended


class Relay:
    """Lines on their way to a file descriptor. `push` may be used from any thread, and never waits for the other side.

    sink: the file descriptor. limit: how many bytes may wait for it.
    """

    def __init__(self, sink: int, limit: int = KEPT_BYTES) -> None:
        self._sink = sink
        self._writable = select.poll()
        self._writable.register(sink, select.POLLOUT)
        self._limit = limit
        self._changed = threading.Condition()
        self._kept = bytearray()
        self._lost = 0
        self._idle = True
        self._torn = False  # whether what was written last is half a line
        threading.Thread(target=self._run, name="relay", daemon=True).start()

    def push(self, lines: bytes) -> None:
        """Take whole lines, or lose them where too many wait already."""
        with self._changed:
            if len(self._kept) + len(lines) > self._limit:
                self._lost += lines.count(b"\n")
            else:
                self._kept += lines
                self._changed.notify_all()

    def flush(self, within: float) -> bool:
        """Wait until everything has been written; False if that is not so after `within` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._idle and not self._kept, within)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._idle = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._kept)
                self._idle = False
                lines, lost = bytes(self._kept), self._lost
                self._kept.clear()
                self._lost = 0
            missing = lost + self._write(lines)
            if lost and missing == lost and not self._write(_note(lost)):
                missing = 0
            with self._changed:
                self._lost += missing

    def _write(self, lines: bytes) -> int:
        """How many of the lines the sink refused."""
        rest = b"\n" + lines if self._torn else lines
        while rest:
            try:
                written = os.write(self._sink, rest)
            except BlockingIOError:  # the terminal or pipe was set so by another who has it
                self._writable.poll()
                continue
            except OSError:  # the disk is full, or the reader of the pipe has gone
                break
            self._torn = rest[written - 1 : written] != b"\n"
            rest = rest[written:]
        return min(rest.count(b"\n"), lines.count(b"\n"))  # the end of a torn line is no line


def _note(lost: int) -> bytes:
    """The line that stands where `lost` others are missing."""
    note = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "level": "WARNING",
        "logger": "server.log_relay",
        "message": f"{lost} lines of the log were lost: nobody took them",
    }
    return json.dumps(note).encode() + b"\n"


def main() -> None:
    """Relay standard input to standard output until its writers have ended."""
    relay = Relay(sink=1)
    rest = b""
    while data := os.read(0, 65536):
        lines, end, rest = (rest + data).rpartition(b"\n")
        if end:
            relay.push(lines + end)
        if len(rest) > KEPT_BYTES:  # what has no end is no line, and is not kept either
            relay.push(rest + b"\n")
            rest = b""
    if rest:
        relay.push(rest + b"\n")
    relay.flush(LAST_SECONDS)


if __name__ == "__main__":
    main()
