"""`pokegen` as its users run it: as a process, and at a terminal of its own."""

import codecs
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

POKEGEN = Path(sys.executable).with_name("pokegen")

# What a terminal is told and a reader does not see: colours, cursor, bracketed paste.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def pokegen(
    *arguments: object, typed: str | bytes = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with what it was given on standard input."""
    data = typed.encode() if isinstance(typed, str) else typed
    done = subprocess.run(
        [POKEGEN, *map(str, arguments)],
        input=data,
        env=bare_environment(env),
        capture_output=True,
        timeout=120,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def bare_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the tests without the service's settings, but with these."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("POKEGEN_")}
    return bare | {"TERM": "xterm"} | dict(env or {})


def as_shown(text: str) -> str:
    """The terminal would obey control characters; what stands for them is shown."""
    return re.sub(r"(?![\n\t])[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text)


class Terminal:
    """`pokegen` at a terminal: what is typed arrives as keys, Ctrl-C included, and what it shows can be waited for.

    Used in a `with`, at whose end nothing of it runs any more, however that came.

    received: the bytes that the terminal was given
    reads: in how many pieces they came, at least
    """

    def __init__(
        self, *arguments: object, env: Mapping[str, str] | None = None, output: Path | None = None
    ) -> None:
        """output: the file that is its standard output, in place of the terminal."""
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            if output:
                os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT, 0o600), 1)
            os.execve(POKEGEN, ["pokegen", *map(str, arguments)], bare_environment(env))  # noqa: S606
        termios.tcsetwinsize(self._terminal, (50, 400))  # no line is too long for it
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._shown = ""
        self._status: int | None = None
        self.received = b""
        self.reads = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)  # what it has started hears of it from the kernel: SIGHUP
            self._reap()
        os.close(self._terminal)

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, text: str, within: float = 30) -> str:
        """All that has been shown since the last wait, until `text`; AssertionError if that does not come."""
        give_up = time.monotonic() + within
        while text not in self._shown:
            assert self._read(give_up), f"{text!r} was not shown, but {self._shown!r}"
        end = self._shown.index(text) + len(text)
        seen, self._shown = self._shown[:end], self._shown[end:]
        return seen

    def wait_until_it_listens(self, within: float = 30) -> None:
        """Until it sleeps, waiting for a key. Wait first for what was typed to be shown: its keys may be on the way.

        Python's input() misses a Ctrl-C that arrives while it takes in the key before, which no hand is fast
        enough for.
        """
        give_up = time.monotonic() + within
        while (state := Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0]) != "S":
            assert time.monotonic() < give_up, f"it never slept, its state is {state}"
            time.sleep(0.01)

    def end(self, within: float = 30) -> tuple[int, str]:
        """Wait for its end; its exit status and what it has shown since the last wait."""
        give_up = time.monotonic() + within
        while self._read(give_up):
            pass
        if time.monotonic() >= give_up:
            os.kill(self.pid, signal.SIGKILL)
        return self._reap(), self._shown

    def _reap(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def _read(self, give_up: float) -> bool:
        """Take in what comes next. False when nothing comes any more, or not in time."""
        if not select.select([self._terminal], [], [], max(0, give_up - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.reads += 1
        self.received += data
        self._shown = _CONTROL.sub("", self._shown + self._decoder.decode(data))
        return bool(data)
