"""Small sound checkpoints, which the inputs are damages of. Their bytes are kept, as an input says what to do to them.

`python -m tests.fuzz.originals` writes them anew, by the libraries whose files the service reads, and the corpus that
is made of them; the rest of the corpus is then of no use.
"""

import json
import shutil
from pathlib import Path

from tests.cards import CARD, README
from tests.checkpoints import TINY, write_gpt2_simple, write_transformers, write_vocabulary

FOLDER = Path(__file__).parent / "originals"
FORMATS = ("gpt2_simple", "transformers", "sharded")


def files_of(kind: str) -> dict[str, bytes]:
    """The content of each file of the checkpoint of this format, by name, in alphabetical order."""
    return {path.name: path.read_bytes() for path in sorted((FOLDER / kind).iterdir())}


def write() -> None:
    """All of FORMATS; `sharded` has GPT-2's pair of tokenizer files too."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_gpt2_simple(FOLDER / "gpt2_simple", TINY, seed=1)
    (FOLDER / "gpt2_simple" / "checkpoint").write_text(
        'model_checkpoint_path: "model-1000"\n'
    )  # as in a copy
    write_transformers(FOLDER / "transformers", TINY, seed=2, add_bos=True)
    sharded = FOLDER / "sharded"
    write_transformers(sharded, TINY, seed=3, dtype="float16", max_shard_size="4KB")
    (sharded / "tokenizer.json").unlink()
    write_vocabulary(sharded, TINY.n_vocab)
    for unread in [*FOLDER.glob("*/*.meta"), *FOLDER.glob("*/generation_config.json")]:
        unread.unlink()


def write_seeds() -> None:
    """For the targets whose inputs are files: the sound ones, behind the choices that lead to them."""
    seeds: dict[str, dict[str, bytes]] = {"file": {}, "table": {}, "card": {}, "readme": {}}
    for kind_number, kind in enumerate(FORMATS):
        for number, (name, content) in enumerate(files_of(kind).items()):
            seeds["file"][f"{kind}-{name}"] = bytes([kind_number, number, 0]) + content
    seeds["table"]["index"] = bytes([0]) + files_of("gpt2_simple")["model-1000.index"]
    seeds["card"]["card"] = bytes([0]) + json.dumps(CARD).encode()
    seeds["readme"]["readme"] = README.encode()
    for target, inputs in seeds.items():
        (FOLDER.parent / "corpus" / target).mkdir(parents=True, exist_ok=True)
        for name, content in inputs.items():
            (FOLDER.parent / "corpus" / target / f"sound-{name}").write_bytes(content)


if __name__ == "__main__":
    write()
    write_seeds()
