"""A byte-level BPE vocabulary of our own, in the files that OpenAI's code and transformers each look for."""

import json
from collections.abc import Iterable
from pathlib import Path

import click
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from finetune.console import FOLDER
from finetune.documents import END_OF_TEXT, read_documents
from finetune.files import replace
from server.commands.console import examples


@click.command(
    context_settings={"show_default": True},
    epilog=examples(
        (
            "one for two data sets",
            "pokegen vocabulary --dataset run/data/base --dataset run/data/episodes --out run/data/vocabulary",
        ),
    ),
)
@click.option(
    "--dataset",
    "datasets",
    type=FOLDER,
    multiple=True,
    required=True,
    help="A prepared folder; may be repeated.",
)
@click.option("--size", type=click.IntRange(min=257), default=4096, help="Tokens, <|endoftext|> included.")
@click.option("--out", type=FOLDER, required=True, help="The folder to write.")
def command(datasets: tuple[Path, ...], size: int, out: Path) -> None:
    """Learn a byte-level BPE vocabulary from the training texts of data sets, in about equal parts.

    Only a model that starts from nothing needs one: a checkpoint brings its own.
    """
    parts = [read_documents(folder / "train.txt") for folder in datasets]
    largest = max(sum(map(len, texts)) for texts in parts)
    write(learn([text for texts in parts for text in texts * (largest // sum(map(len, texts)))], size), out)


def learn(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """A tokenizer of at most `n_vocab` tokens: the 256 bytes, merges learnt from `texts`, and `<|endoftext|>` last.

    As in GPT-2, any text at all can be encoded and comes back unchanged. Raises ValueError when `n_vocab` is under 257.
    """
    if n_vocab < 257:
        raise ValueError(f"n_vocab is {n_vocab}: at least 257 are needed, one a byte and {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=True,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _complete(Tokenizer(tokenizer.model))


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """encoder.json and vocab.bpe for gpt-2-simple, tokenizer.json and tokenizer_config.json for transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(tokenizer.to_str())["model"]
    ids = tokenizer.get_vocab(with_added_tokens=True)
    encoder = dict(sorted(ids.items(), key=lambda item: item[1]))
    replace(folder / "encoder.json", json.dumps(encoder))
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    replace(folder / "vocab.bpe", "#version: 0.2\n" + merges)
    replace(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "add_bos_token": bool(tokenizer.encode("").ids),
        "add_prefix_space": False,
    }
    replace(folder / "tokenizer_config.json", json.dumps(config, indent=2) + "\n")


def read(folder: Path, *, of_documents: bool = True) -> Tokenizer:
    """The tokenizer of a checkpoint or of a folder that `write` wrote, whichever names its files have.

    `of_documents`: a prompt begins with `<|endoftext|>`, as what our trainers train on does, whatever the folder says.
    Raises FileNotFoundError when there is none.
    """
    if (folder / "tokenizer.json").exists():
        return _complete(Tokenizer.from_file(str(folder / "tokenizer.json")), of_documents)
    for encoder, merges in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        if (folder / encoder).exists():
            bpe = models.BPE.from_file(str(folder / encoder), str(folder / merges))
            return _complete(Tokenizer(bpe), of_documents)
    raise FileNotFoundError(f"{folder} holds no vocabulary: make one with `pokegen vocabulary`")


def _complete(tokenizer: Tokenizer, of_documents: bool = True) -> Tokenizer:
    """`tokenizer`, made to treat bytes, delimiters and prompts as `write` says it."""
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    # A prefix is the beginning of a document, and this is how transformers knows; add_bos_token says it to others.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A" if of_documents else "$A",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    return tokenizer
