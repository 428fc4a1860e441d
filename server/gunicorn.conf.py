"""gunicorn in uWSGI's place, with the same application and the same variables.

    gunicorn --config server/gunicorn.conf.py

Run it in the repository's root. It speaks plain HTTP only, on POKEGEN_HTTP.
"""

from server.settings import load_settings

settings = load_settings()

wsgi_app = "server.wsgi:application"
bind = settings.http

# One process holds the one engine; the threads wait for it.
workers = 1
worker_class = "gthread"
threads = settings.threads
preload_app = False  # the engine's thread has to start after the fork

graceful_timeout = settings.grace
timeout = 300  # how long the worker may be silent, which it is while it loads the checkpoint
keepalive = 75  # longer than a proxy in front keeps a connection, so that it is the proxy that closes it

limit_request_line = 0  # as long an address as a header field
limit_request_field_size = 16384

accesslog = None  # the application writes it
control_socket_disable = True  # it would be a file in the home directory
worker_tmp_dir = "/dev/shm"  # noqa: S108 - the heartbeat's file: in memory, and writable on a read-only root
