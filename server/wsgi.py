"""What uWSGI, gunicorn and `flask --app server.wsgi run` load."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from server.app import create_app
from server.engine import EngineError
from server.settings import SettingsError
from server.weights import CheckpointError

try:
    application = create_app()
except (SettingsError, CheckpointError, EngineError):
    sys.tracebacklimit = 0  # its one line says what to mend; the server prints it and ends
    raise
# scripts/run names a file, to know which worker has the checkpoint. A full disk is no reason to end.
if loaded := os.environ.get("POKEGEN_LOADED"):
    with suppress(OSError):
        Path(loaded).write_text(f"{os.getpid()}\n")
