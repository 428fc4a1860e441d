"""The command line: `pokegen COMMAND`. A command is a module, loaded when it is run: no other waits for it."""

import importlib
import os
import select
import sys
import traceback
from typing import IO, Any

import click
from click.shell_completion import CompletionItem

# The way to a checkpoint. These need more packages than the service has.
PIPELINE = {  # name: (module, what it does)
    "crawl": ("finetune.crawl.command", "Fetch episode summaries from a wiki."),
    "prepare": ("finetune.prepare.command", "Clean raw text and split it into training and held-out texts."),
    "recast": (
        "finetune.compose.recast",
        "Add copies of the training texts with other Pokémon, companions and towns.",
    ),
    "compose": ("finetune.compose.compose", "Compose base text from the corpus's storylines and beats."),
    "vocabulary": ("finetune.vocabulary", "Learn a vocabulary for a model that starts from nothing."),
    "download": ("finetune.download.command", "Fetch one of OpenAI's models: 124M, 355M, 774M or 1558M."),
    "finetune": ("finetune.train.command", "Fine-tune a GPT-2, or train a new one, on prepared texts."),
    "evaluate": (
        "finetune.evaluate.command",
        "Measure a checkpoint: perplexity, diversity, and what it copies.",
    ),
    "export": ("finetune.publish.export", "Write a checkpoint in another format."),
    "card": ("finetune.publish.card", "Write a checkpoint's model card."),
    "register": ("finetune.publish.register", "Put a checkpoint into an MLflow model registry."),
}
SECTIONS = {
    "Texts": {
        "generate": ("server.commands.generate", "Write texts, to the terminal, to a pipe or to a file."),
        "interactive": ("server.commands.interactive", "Continue what you type, one prompt after the other."),
    },
    "The service": {
        "serve": ("server.commands.serve", "Serve the page and the API from one process, for development."),
        "check": (
            "server.commands.check",
            "Check the settings, the checkpoint they name and the memory it needs.",
        ),
        "reload": (
            "server.commands.reload",
            "Let the running service read its checkpoint again, without a pause.",
        ),
        "key": ("server.commands.key", "Make an API key and its entry for the file of POKEGEN_API_KEYS."),
        "env": ("server.commands.env", "Print every setting as the shell's `export` lines."),
        "bench": (
            "server.bench.command",
            "Measure the engine on this machine, and how near it comes to what the machine can do.",
        ),
    },
    "The way to a checkpoint": PIPELINE,
    "The shell": {
        "completion": ("server.commands.completion", "Print the script that completes commands and options."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}

INTERRUPTED = 130  # as shells say it: 128 and the number of SIGINT


class Failure(click.ClickException):
    """What ended a command, in one line that says what to mend; POKEGEN_LOG_LEVEL=DEBUG shows where it comes from."""

    def __init__(self, error: Exception) -> None:
        # Mostly a value that is refused, but nothing tells it from a fault of ours, whose place matters.
        hint = (
            " (POKEGEN_LOG_LEVEL=DEBUG shows where this comes from)" if isinstance(error, ValueError) else ""
        )
        super().__init__(f"{error}{hint}")
        self._error = error

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it on standard error."""
        if os.environ.get("POKEGEN_LOG_LEVEL") == "DEBUG":
            click.echo("".join(traceback.format_exception(self._error)), file, err=True, nl=False)
        click.echo(f"pokegen: {self.message}", file, err=True)


def is_for_the_user(error: Exception) -> bool:
    """Whether this is something that a user can mend, rather than a fault of ours."""
    # Whatever raised one of these has loaded them already; `pokegen --help` need not.
    from server.engine import EngineError
    from server.settings import SettingsError
    from server.weights import CheckpointError

    return isinstance(error, (ValueError, OSError, CheckpointError, EngineError, SettingsError))


def reader_has_left() -> bool:
    """Whether standard output is a pipe that nobody reads any more; other pipes and connections break, too."""
    if not sys.stdout:
        return False
    poll = select.poll()
    poll.register(sys.stdout, 0)  # which leaves only what is wrong with it
    return bool(poll.poll(0))


class Commands(click.Group):
    """Commands that are listed and completed by name without loading any of them."""

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Run the command that is named; what a user can mend is one line, and every end has its exit status."""
        try:
            result = super().invoke(context)
            if sys.stdout:  # which is None where it was closed
                sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            click.echo(err=True)  # behind the ^C of the terminal
            context.exit(INTERRUPTED)
        except BrokenPipeError as error:
            if not reader_has_left():
                raise Failure(error) from error
            # `head` has had enough, which is no error. Python flushes once more when it ends, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            context.exit()
        except Exception as error:
            if not is_for_the_user(error):
                raise
            raise Failure(error) from error

    def list_commands(self, context: click.Context) -> list[str]:
        """All of them."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name. Raises ClickException when a package that it needs is not installed."""
        if name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(COMMANDS[name][0])
        except ModuleNotFoundError as error:
            if context.resilient_parsing:  # a shell completes a line, which is no time for messages
                return None
            raise click.ClickException(
                f"pokegen {name} needs the package {error.name}, which is not installed: run `make pipeline`"
            ) from None
        command: click.Command = module.command
        return command

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so."""
        found = [
            CompletionItem(name, help=does)
            for name, (_, does) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, context, incomplete)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List all of them."""
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, does) for name, (_, does) in section.items()])


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        # gpt-2-simple's and OpenAI's commands spell their options with underscores: --top_k is --top-k.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
    epilog="""\b
Each has a --help with examples. A first look, and completion for the shell (bash, zsh, fish):
  pokegen generate --prefix "Ash and Pikachu were"
  eval "$(pokegen completion bash)"

\b
Exit status:
  0    done
  1    failed; one line on standard error says what to mend
  2    wrong arguments
  130  interrupted by Ctrl-C
""",
)
@click.version_option(package_name="pokegen")
def commands() -> None:
    """One fine-tuned GPT-2 in front of hundreds of readers."""


def main() -> None:
    """Run a command and leave with its exit status."""
    commands()
