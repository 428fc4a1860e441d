"""Lets the engine's thread of the process that imports it run out of memory between two steps, when somebody says so.

uWSGI imports it beside the application where UWSGI_IMPORT names it. Who opens the pipe POKEGEN_TEST_PIPE for writing
and closes it has said so. Where POKEGEN_TEST_LINGERS is set, the process does what it does at a crash, which is to end
soon, only when that has been done once more: until then a test can look at it.
"""

import os
import threading
from pathlib import Path

from server import wsgi


def _out_of_memory() -> None:
    raise MemoryError


def _wait_until_told() -> None:
    Path(os.environ["POKEGEN_TEST_PIPE"]).read_text()  # comes back when somebody has written


def _kill_when_told() -> None:
    _wait_until_told()
    engine = wsgi.application.extensions["serving"].current.engine
    if "POKEGEN_TEST_LINGERS" in os.environ:
        end = engine._on_crash

        def end_when_told() -> None:
            _wait_until_told()
            end()

        engine._on_crash = end_when_told
    engine._scheduler.schedule = _out_of_memory


threading.Thread(target=_kill_when_told, name="kill-engine", daemon=True).start()
