"""What uWSGI, gunicorn and `flask --app server.wsgi run` load."""

import sys

from server.app import create_app
from server.engine import EngineError
from server.settings import SettingsError
from server.weights import CheckpointError

try:
    application = create_app()
except (SettingsError, CheckpointError, EngineError):
    sys.tracebacklimit = 0  # its one line says what to mend; the server prints it and ends
    raise
