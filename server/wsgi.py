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
if (
    "POKEGEN_LOADED" in os.environ
):  # scripts/run asks there which worker has the checkpoint; a full disk is no reason to end
    with suppress(OSError):
        Path(os.environ["POKEGEN_LOADED"]).write_text(f"{os.getpid()}\n")
