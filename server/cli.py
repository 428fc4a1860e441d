"""The command line: `pokegen COMMAND`."""

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
from server.weights import CheckpointError, open_checkpoint


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pokegen")
def main() -> None:
    """One fine-tuned GPT-2 in front of hundreds of readers."""


@main.command()
def check() -> None:
    """Check the settings, the checkpoint they name and the memory it needs, without loading its weights.

    The service runs this before it starts. Exits with 1 and one line that says what to mend, if anything.
    """
    try:
        settings = load_settings()
        with open_checkpoint(settings.checkpoint) as checkpoint:
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


@main.command()
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
