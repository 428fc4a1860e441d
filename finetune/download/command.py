"""`pokegen download`: OpenAI's GPT-2 of 2019, in the files and folders that gpt-2-simple and openai/gpt-2 expect.

Source: download_model.py in github.com/openai/gpt-2.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from tqdm import tqdm

from server.commands.console import Interrupted, examples
from server.weights import CheckpointError, open_checkpoint
from server.weights.errors import COPY_AGAIN
from server.weights.fetch import describe, fetch, is_whole, new_session, part_of
from server.weights.layout import tensor_shapes

URL = "https://openaipublic.blob.core.windows.net/gpt-2/models"
MODELS = ("124M", "355M", "774M", "1558M")
# `checkpoint` last: a folder that has it is a checkpoint to whoever finds it.
FILES = (
    "encoder.json",
    "hparams.json",
    "vocab.bpe",
    "model.ckpt.meta",
    "model.ckpt.index",
    "model.ckpt.data-00000-of-00001",
    "checkpoint",
)


@click.command(
    "download",
    context_settings={"show_default": True},
    epilog=examples(
        (
            "into models/124M, from where `pokegen finetune` and `pokegen generate` take it",
            "pokegen download 124M",
        ),
    ),
)
@click.argument("model", type=click.Choice(MODELS))
@click.option(
    "--models-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    help="The folder that the model's own folder is in.",
)
@click.option("--url", default=URL, help="Where the models are: their files are URL/MODEL/FILE.")
def command(model: str, models_dir: Path, url: str) -> None:
    """Fetch one of OpenAI's models: 124M (0.5 GB), 355M (1.4 GB), 774M (3.1 GB) or 1558M (6.2 GB).

    Goes on where it was interrupted. What is there and whole is not fetched again; what arrives damaged is not kept.
    """
    folder = models_dir / model
    try:
        fetched = download(f"{url.rstrip('/')}/{model}", folder)
    except KeyboardInterrupt:
        raise Interrupted("interrupted: the same command goes on where it stopped") from None
    click.echo(
        f"{folder}: {len(fetched)} of {len(FILES)} files fetched, every tensor has the checksum stored for it"
    )


def download(url: str, folder: Path, pause: float = 1.0) -> list[str]:
    """Bring the files URL/FILE into `folder`, each whole and checked, and return the names of those that had to come.

    Failed requests are repeated after `pause`, 2 `pause`, ... seconds. Raises OSError when there is too little space
    or the server doesn't give them, ValueError when what it gives is damaged; both say what to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with new_session(pause) as session:
        remotes = {name: describe(session, f"{url}/{name}") for name in FILES}
        missing = {name: remote for name, remote in remotes.items() if not is_whole(folder / name, remote)}
        parts = [part_of(folder / name, remote) for name, remote in missing.items()]
        needed = sum(remote.size for remote in missing.values())
        needed -= sum(part.stat().st_size for part in parts if part.exists())
        if needed > (free := shutil.disk_usage(folder).free):
            raise OSError(
                f"{folder} needs {needed:,} bytes more and its disk has {free:,}: name another --models-dir"
            )
        fetched = {name: fetch(session, remote, folder / name, pause) for name, remote in missing.items()}
    _verify({name: fetched.get(name, folder / name) for name in FILES}, folder)
    for name, part in fetched.items():
        part.replace(folder / name)
    return list(fetched)


def _verify(files: dict[str, Path], folder: Path) -> None:
    """Read every tensor of the checkpoint that `files` are, by name, before they are in `folder` by that name.

    Raises ValueError for a wrong checksum, or what else is no checkpoint, and removes what has come, and what was
    there and is damaged itself: the rest may be gigabytes that need not come again. Raises OSError where the disk
    fails, and removes nothing.
    """
    with TemporaryDirectory() as view:
        for name, file in files.items():
            (Path(view) / name).symlink_to(file.resolve())
        try:
            with open_checkpoint(Path(view)) as checkpoint:
                names = tensor_shapes(checkpoint.hparams)
                for name in tqdm(names, desc="verify", unit="tensor", disable=None):
                    checkpoint.tensor(name)
        except CheckpointError as error:
            said = str(error)
            problem = said.replace(view, str(folder))
            if isinstance(error.__cause__, OSError):
                raise OSError(
                    f"{problem} (nothing has been removed: if this stays, name another --models-dir)"
                ) from error
            for name, file in files.items():
                has_come = file != folder / name
                is_damaged = said.startswith(f"{view}/{name}: ") and said.endswith(COPY_AGAIN)
                if has_come or is_damaged:
                    file.unlink()
            raise ValueError(
                f"{problem} (what has come, or is damaged, has been removed: fetch it again;"
                f" if that does not help, remove {folder})"
            ) from error
