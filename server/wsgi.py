"""What uWSGI, gunicorn and `flask --app server.wsgi run` load."""

from server.app import create_app

application = create_app()
