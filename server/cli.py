"""The command line: `pokegen COMMAND`."""

import importlib
import shlex
import sys

import click

from server.engine import NotEnoughMemoryError, plan_cache
from server.settings import (
    SettingsError,
    load_settings,
    misspelt_variables,
    require_fitting_opening,
    variable,
)
from server.weights import CheckpointError, find_checkpoint, open_checkpoint

# These commands are loaded when they are run: the others need not wait for what only they need.
BENCH = "Measure the engine on this machine, and how near it comes to what the machine can do."
# The way to a checkpoint. These need more packages than the service has.
PIPELINE = {  # name: (module, what it does)
    "crawl": ("crawl.command", "Fetch episode summaries from a wiki."),
    "prepare": ("prepare.command", "Clean raw text and split it into training and held-out texts."),
    "recast": (
        "compose.recast",
        "Add copies of the training texts with other Pokémon, companions and towns.",
    ),
    "compose": ("compose.compose", "Compose base text from the corpus's storylines and beats."),
    "vocabulary": ("vocabulary", "Learn a vocabulary for a model that starts from nothing."),
    "download": ("download.command", "Fetch one of OpenAI's models: 124M, 355M, 774M or 1558M."),
    "finetune": ("train.command", "Fine-tune a GPT-2, or train a new one, on prepared texts."),
    "evaluate": ("evaluate.command", "Measure a checkpoint: perplexity, diversity, and what it copies."),
    "export": ("publish.export", "Write a checkpoint in another format."),
    "card": ("publish.card", "Write a checkpoint's model card."),
    "register": ("publish.register", "Put a checkpoint into an MLflow model registry."),
}
MODULES = {"bench": "server.bench.command"} | {
    name: f"finetune.{module}" for name, (module, _) in PIPELINE.items()
}


class Commands(click.Group):
    """The service's own commands, and by name those that are loaded when they are run."""

    def list_commands(self, context: click.Context) -> list[str]:
        """All of them, for completion and for what is said about a misspelt one."""
        return [*super().list_commands(context), *MODULES]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name. Raises ClickException when a package that it needs is not installed."""
        if name not in MODULES:
            return super().get_command(context, name)
        try:
            module = importlib.import_module(MODULES[name])
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"pokegen {name} needs the package {error.name}, which is not installed: run `make pipeline`"
            ) from None
        command: click.Command = module.command
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List all of them without loading any."""
        own = {
            name: self.commands[name].get_short_help_str(limit=90) for name in super().list_commands(context)
        }
        pipeline = {name: help_line for name, (_, help_line) in PIPELINE.items()}
        for title, rows in (("The service", own | {"bench": BENCH}), ("The way to a checkpoint", pipeline)):
            with formatter.section(title):
                formatter.write_dl(list(rows.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pokegen")
def commands() -> None:
    """One fine-tuned GPT-2 in front of hundreds of readers."""


def main() -> None:
    """Run a command; what a user can mend is one line, and the exit status says how it went."""
    try:
        commands()
    except (ValueError, OSError, CheckpointError) as error:
        sys.exit(f"pokegen: {error}")


@commands.command()
def check() -> None:
    """Check the settings, the checkpoint they name and the memory it needs, without loading its weights.

    The service runs this before it starts. Exits with 1 and one line that says what to mend, if anything.
    """
    try:
        settings = load_settings()
        directory, _ = find_checkpoint(settings.checkpoint, settings.registry)
        with open_checkpoint(directory) as checkpoint:
            require_fitting_opening(settings, checkpoint)
            hparams = checkpoint.hparams
        plan_cache(hparams, settings.engine, settings.max_running)
    except (SettingsError, CheckpointError, NotEnoughMemoryError) as error:
        print(f"pokegen: {error}", file=sys.stderr)
        sys.exit(1)
    for name, meant in misspelt_variables().items():
        print(f"pokegen: {name} is no setting and is ignored; did you mean {meant}?", file=sys.stderr)
    print(
        f"{settings.checkpoint}: {hparams.n_layer} layers, {hparams.n_embd} channels, {hparams.n_head} heads,"
        f" {hparams.n_vocab} tokens in the vocabulary, n_ctx {hparams.n_ctx}"
    )


@commands.command()
def env() -> None:
    """Print every setting, defaults included, as the shell's `export` lines.

    For scripts, which thereby need neither defaults nor a second idea of what a number looks like:
    eval "$(pokegen env)". Exits with 1 and one line that says what to mend, if anything.
    """
    try:
        settings = load_settings()
    except SettingsError as error:
        print(f"pokegen: {error}", file=sys.stderr)
        sys.exit(1)
    for name, value in settings.model_dump().items():
        print(f"export {variable(name)}={shlex.quote(str(value))}")
