"""`pokegen serve`: the page and the API from one process, by gunicorn and without nginx, for development."""

import os
import socket
import sys
from pathlib import Path

import click
from flask import Flask, Response, request, send_from_directory
from werkzeug.security import safe_join

from server.commands import check
from server.commands.console import examples
from server.settings import load_settings, variable

SERVER = Path(__file__).parents[1]
SITE = SERVER.parent / "nginx/site"  # not there where Pokegen was installed from a wheel


@click.command(
    epilog=examples(
        ("the shipped checkpoint at http://127.0.0.1:5000", "pokegen serve"),
        (
            "another one, for everybody in the network",
            "pokegen serve --checkpoint checkpoint/jokes --host 0.0.0.0",
        ),
        ("while working on the code, on one thread", "POKEGEN_ENGINE_THREADS=1 pokegen serve --reload"),
    )
)
@click.option("--host", show_default="that of POKEGEN_HTTP, or 127.0.0.1", help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    show_default="that of POKEGEN_HTTP, or 5000",
    help="The port to listen at.",
)
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False),
    show_default="POKEGEN_CHECKPOINT, or the one that Pokegen comes with",
    help="A directory, or models:/NAME/VERSION or models:/NAME@ALIAS in POKEGEN_REGISTRY.",
)
@click.option("--reload", "reloads", is_flag=True, help="Start anew whenever a file of the code changes.")
@click.pass_context
def command(
    context: click.Context, /, host: str | None, port: int | None, checkpoint: str | None, reloads: bool
) -> None:
    """Serve the page and the API from one process, for development.

    What it answers is what the service answers: the same application with the same POKEGEN_ settings
    (docs/operations.md), on gunicorn. nginx's part is missing: limits, compression, security headers; `make run` and
    the images have it. Ctrl-C or TERM ends it, TERM when the answers in flight have arrived, both with exit status 0.
    """
    usual_host, usual_port = load_settings().http.rsplit(":", 1)
    os.environ[variable("http")] = f"{host or usual_host}:{port or usual_port}"
    if checkpoint:
        os.environ[variable("checkpoint")] = checkpoint
    require_free(load_settings().http)
    context.invoke(check.command)
    gunicorn = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        str(SERVER / "gunicorn.conf.py"),
        "--log-level=warning",
    ]
    # In this process's place: whoever started it stops it, and nothing stands between.
    reload = ["--reload"] if reloads else []
    os.execv(sys.executable, [*gunicorn, *reload, f"{__name__}:application()"])  # noqa: S606 - no shell is wanted


def require_free(address: str) -> None:
    """Raise ClickException where nobody can listen at host:port: gunicorn would try for seconds and say less."""
    host, port = address.rsplit(":", 1)
    try:
        socket.create_server((host, int(port))).close()
    except OSError as error:
        # create_server repeats the address behind the reason.
        why, _, _ = (error.strerror or str(error)).partition(" (while")
        raise click.ClickException(
            f"cannot listen on {address}: {why}. Choose another --port, or --host"
        ) from None


def application() -> Flask:
    """The service's application, which gives out the page as well."""
    from server.api import compat  # in the process that serves, after the fork
    from server.app import create_app

    app = create_app()

    @app.before_request
    def page() -> Response | None:
        """A file of the page, for whoever asks for one."""
        name = request.path.removeprefix("/")
        path = safe_join(str(SITE), name or "index.html")
        if request.method not in ("GET", "HEAD") or not path or not Path(path).is_file():
            return None
        if not name and compat.is_asked_at_root():
            return None
        return send_from_directory(SITE, Path(path).relative_to(SITE), max_age=0)

    address = app.extensions["settings"].http
    click.echo(f"Pokegen is ready: http://{address}/ (Ctrl-C stops it)", err=True)
    return app
