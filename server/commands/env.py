"""`pokegen env`: the settings for scripts."""

import shlex

import click

from server.commands.console import examples
from server.settings import load_settings, variable


@click.command(
    epilog=examples(
        ("what the service would run with", "pokegen env"),
        ("the same in a script, with one setting of its own", 'eval "$(POKEGEN_LENGTH=100 pokegen env)"'),
    )
)
def command() -> None:
    """Print every setting, defaults included, as the shell's `export` lines.

    For scripts, which thereby need neither defaults nor a second idea of what a number looks like.
    docs/operations.md explains each. Exits with 1 and one line that says what to mend, if anything.
    """
    for name, value in load_settings().model_dump().items():
        click.echo(f"export {variable(name)}={shlex.quote(str(value))}")
