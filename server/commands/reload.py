"""`pokegen reload`: let the running service read its checkpoint again."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any

import click

from server.commands.console import examples
from server.settings import load_settings

PATIENCE = 600.0  # seconds: a large checkpoint is packed for a minute, and waits for the last texts of the one before


@click.command(
    epilog=examples(
        ("after another checkpoint was put in the place of POKEGEN_CHECKPOINT", "pokegen reload"),
        ("a service in a container", "docker compose exec server pokegen reload"),
    )
)
def command() -> None:
    """Let the running service read its checkpoint and its API keys again, without a pause.

    It is asked at POKEGEN_HTTP. The new checkpoint is loaded and tried beside the one that answers, and then takes the
    new requests, while those that have begun are finished by the old one. Exits with 1 and one line that says what to
    mend where it is refused: then all stays as it was. Other settings take a restart.
    """
    host, port = load_settings().http.rsplit(":", 1)
    status, answer = _ask("127.0.0.1" if host == "0.0.0.0" else host, int(port))  # noqa: S104 - not listened at
    if status != 200:
        raise click.ClickException(answer.get("detail", f"the service answered {status}"))
    news = "answers from here on" if answer["is_new"] else "is what answers already"
    click.echo(f"{answer['model']} ({answer['fingerprint']}) {news}")
    if answer.get("keys") is not None:
        click.echo(f"API keys were read again: there are {answer['keys']}")


def _ask(host: str, port: int) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("POST", "/reload", "{}", {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise click.ClickException(
            f"no service answers at {host}:{port} ({error}): is POKEGEN_HTTP the running service's?"
        ) from error
    finally:
        connection.close()
