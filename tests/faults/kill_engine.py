"""Lets the engine's thread of the process that imports it run out of memory between two steps, when somebody says so.

uWSGI imports it beside the application where UWSGI_IMPORT names it. Who opens the pipe POKEGEN_TEST_PIPE for writing
and closes it has said so.
"""

import os
import threading
from pathlib import Path

from server import wsgi


def _out_of_memory() -> None:
    raise MemoryError


def _kill_when_told() -> None:
    Path(os.environ["POKEGEN_TEST_PIPE"]).read_text()  # comes back when somebody has written
    wsgi.application.extensions["serving"].current.engine._scheduler.schedule = _out_of_memory


threading.Thread(target=_kill_when_told, name="kill-engine", daemon=True).start()
