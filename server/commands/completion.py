"""`pokegen completion`: what a shell needs to complete pokegen's commands and options."""

import click
from click.shell_completion import get_completion_class

from server.commands.console import examples


@click.command(
    epilog=examples(
        ("in this bash, or for good as a line of ~/.bashrc", 'eval "$(pokegen completion bash)"'),
        ("zsh: a line of ~/.zshrc, behind compinit", 'eval "$(pokegen completion zsh)"'),
        ("fish: for good", "pokegen completion fish > ~/.config/fish/completions/pokegen.fish"),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands, options and their choices.

    `pokegen` has to be on the PATH, as it is where its virtual environment is activated.
    """
    completion = get_completion_class(shell)
    assert completion  # noqa: S101 - click has all three
    click.echo(completion(context.find_root().command, {}, "pokegen", "_POKEGEN_COMPLETE").source())
