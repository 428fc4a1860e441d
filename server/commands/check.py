"""`pokegen check`: whether the service would start."""

import click

from server.commands.console import examples
from server.engine import plan_memory
from server.keys import read_keys
from server.settings import load_settings, misspelt_variables, require_fitting_opening
from server.weights import find_checkpoint, open_checkpoint


@click.command(
    epilog=examples(
        ("the shipped checkpoint, by the settings of this shell", "pokegen check"),
        ("another one, before the service gets it", "POKEGEN_CHECKPOINT=checkpoint/jokes pokegen check"),
    )
)
def command() -> None:
    """Check the settings, the checkpoint they name and the memory it needs, without loading its weights.

    The service runs this before it starts. Exits with 1 and one line that says what to mend, if anything.
    """
    settings = load_settings()
    read_keys(settings)
    directory, _ = find_checkpoint(settings.checkpoint, settings.registry)
    with open_checkpoint(directory) as checkpoint:
        require_fitting_opening(settings, checkpoint)
        hparams = checkpoint.hparams
    plan_memory(hparams, settings.engine, settings.max_running)
    for name, meant in misspelt_variables().items():
        click.echo(f"pokegen: {name} is no setting and is ignored; did you mean {meant}?", err=True)
    click.echo(
        f"{settings.checkpoint}: {hparams.n_layer} layers, {hparams.n_embd} channels, {hparams.n_head} heads,"
        f" {hparams.n_vocab} tokens in the vocabulary, n_ctx {hparams.n_ctx}"
    )
