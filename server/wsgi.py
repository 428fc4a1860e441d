"""What uWSGI, gunicorn and `flask --app server.wsgi run` load."""

import sys

from server.app import create_app
from server.engine import EngineError
from server.settings import SettingsError
from server.weights import CheckpointError

try:
    application = create_app()
except (SettingsError, CheckpointError, EngineError) as error:
    sys.exit(f"pokegen: {error}")
