"""`pokegen key`: an API key, and its entry in the file of POKEGEN_API_KEYS."""

import click

from server.commands.console import examples
from server.keys import ANONYMOUS, NAME, Limits, digest, new_key


@click.command(
    epilog=examples(
        ("a key for alice: add what it prints to the file", "pokegen key alice"),
        ("one for a script that asks a lot", "pokegen key nightly --at-once 32 --per-minute 600"),
        ("what is allowed without a key", "pokegen key anonymous --at-once 4 --per-minute 30"),
        ("whether the file is good", "POKEGEN_API_KEYS=keys.toml pokegen check"),
    )
)
@click.argument("name")
@click.option(
    "--at-once",
    type=click.IntRange(1, 10_000),
    default=Limits().at_once,
    show_default=True,
    help="Samples that may run or wait.",
)
@click.option(
    "--per-minute",
    type=click.IntRange(1, 10_000),
    default=Limits().per_minute,
    show_default=True,
    help="Requests in a minute.",
)
def command(name: str, at_once: int, per_minute: int) -> None:
    """Make an API key for NAME: the key goes to standard error, this once, and its entry to standard output.

    So `pokegen key alice >> keys.toml` adds it to the file; chmod 600 keeps others from writing there. The entry holds
    no key, but its SHA-256. The name anonymous gets no key: its limits are for those who send none. A running service
    takes the file up at `make reload`.
    """
    if not NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} must be up to 64 letters, digits, - and _", param_hint="NAME")
    lines = [f"[{name}]", f"at_once = {at_once}", f"per_minute = {per_minute}"]
    if name != ANONYMOUS:
        key = new_key()
        click.echo(f"The key of {name}, which is shown this once: {key}", err=True)
        lines.insert(1, f'sha256 = "{digest(key)}"')
    click.echo("\n".join(lines) + "\n")
