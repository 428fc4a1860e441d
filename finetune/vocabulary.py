"""A byte-level BPE vocabulary of our own, in the files that OpenAI's code and transformers each look for."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END_OF_TEXT = "<|endoftext|>"  # the only special token: it begins and ends every document

FILES = ("encoder.json", "vocab.bpe", "tokenizer.json", "tokenizer_config.json")


def learn(texts: Iterable[str], n_vocab: int) -> Tokenizer:
    """A tokenizer of at most `n_vocab` tokens: the 256 bytes, merges learnt from `texts`, and `<|endoftext|>` last.

    As in GPT-2, any text at all can be encoded and comes back unchanged. Raises ValueError when `n_vocab` is under 257.
    """
    if n_vocab < 257:
        raise ValueError(f"n_vocab is {n_vocab}: at least 257 are needed, one a byte and {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=n_vocab - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=True,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END_OF_TEXT])
    # A prefix is the beginning of a document, and this is how transformers knows; add_bos_token says it to others.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))]
    )
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path) -> None:
    """The four files of `FILES`: two as gpt-2-simple names them, two as transformers does."""
    folder.mkdir(parents=True, exist_ok=True)
    model = json.loads(tokenizer.to_str())["model"]
    ids = tokenizer.get_vocab(with_added_tokens=True)
    encoder = dict(sorted(ids.items(), key=lambda item: item[1]))
    (folder / "encoder.json").write_text(json.dumps(encoder), encoding="utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (folder / "vocab.bpe").write_text("#version: 0.2\n" + merges, encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "add_bos_token": True,
        "add_prefix_space": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def read(folder: Path) -> Tokenizer:
    """The tokenizer that `write` left in `folder`. Raises FileNotFoundError when there is none."""
    file = folder / "tokenizer.json"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: run `python -m finetune vocabulary` first")
    return Tokenizer.from_file(str(file))
