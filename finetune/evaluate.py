"""`pokegen evaluate`: a checkpoint against held-out text, with that text itself as the yardstick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

EVALUATION_FILE = "evaluation.json"


@dataclass(frozen=True)
class Perplexity:
    """What one model pays for the held-out texts, the `<|endoftext|>` that ends each included.

    model: a checkpoint's name, or a 5-gram model's, such as `5-gram of episodes and base`
    kind: a `checkpoint`, or a `5-gram` model of the tokens of the evaluated checkpoint
    digest: of the checkpoint's weights (as `initial weights` in run.json), or of the texts that the 5-gram counted
    tokens: how many it had to predict, in its own vocabulary
    perplexity_per_token: comparable only between models of one vocabulary
    perplexity_per_byte: 2 ** bits_per_byte, comparable between all models
    bits_per_byte: by the UTF-8 byte of the texts alone, as in a training curve
    """

    model: str
    kind: Literal["checkpoint", "5-gram"]
    digest: str
    tokens: int
    perplexity_per_token: float
    perplexity_per_byte: float
    bits_per_byte: float


@dataclass(frozen=True)
class Diversity:
    """How different texts are from each other. None: there was nothing to count.

    texts: how many were compared with each other; as many samples as held-out texts
    distinct_1 to distinct_4: the share of word n-grams that are different ones, from 0 to 1; higher is more diverse.
        Counted over `words` words, as many of the samples as of the held-out texts, because it falls with length.
    self_bleu: mean BLEU, 0 to 100, of a text against all the others; lower is more diverse
    """

    texts: int
    words: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    distinct_4: float | None
    self_bleu: float | None


@dataclass(frozen=True)
class Copying:
    """What samples, and beside them held-out texts, have word for word from one training text.

    training: the folder's name; digest: of its texts; documents, words: how many it has
    ..._share_of_12_grams: the share, 0 to 1, of the runs of 12 words that occur in a document of the training text;
        None where no text has 12 words
    ..._longest_run_median, ..._longest_run_max: words of the longest run that a text shares with a document
    """

    training: str
    digest: str
    documents: int
    words: int
    samples_share_of_12_grams: float | None
    samples_longest_run_median: float
    samples_longest_run_max: int
    held_out_share_of_12_grams: float | None
    held_out_longest_run_median: float
    held_out_longest_run_max: int


@dataclass(frozen=True)
class Evaluation:
    """What `evaluation.json` holds.

    checkpoint: its folder's name; checkpoint_digest: of its weights; engine: what computed it
    dataset: its folder's name; held_out_digest: of its held-out texts (as `held-out texts` in run.json)
    held_out_texts, held_out_words, held_out_bytes: how much of them there is
    samples: how many texts were drawn from the empty prompt; samples_words: their words in all
    samples_ended: the share of them that ended by themselves, before they filled the context or `length`
    temperature, top_k, top_p, seed, length: how they were drawn; sample i with seed + i
    perplexities: the checkpoint first, then other checkpoints, then 5-gram models
    samples_diversity, held_out_diversity: the samples', and for comparison that of as many held-out texts
    copying: one entry for each training text, the data set's own first
    """

    checkpoint: str
    checkpoint_digest: str
    engine: str
    dataset: str
    held_out_digest: str
    held_out_texts: int
    held_out_words: int
    held_out_bytes: int
    samples: int
    samples_words: int
    samples_ended: float
    temperature: float
    top_k: int
    top_p: float
    seed: int
    length: int
    perplexities: list[Perplexity]
    samples_diversity: Diversity
    held_out_diversity: Diversity
    copying: list[Copying]


def read_evaluation(checkpoint: Path) -> Evaluation:
    """What was measured of `checkpoint`.

    Raises FileNotFoundError when nothing was, and ValueError when evaluation.json is not what `pokegen evaluate` writes.
    """
    file = checkpoint / EVALUATION_FILE
    if not file.exists():
        raise FileNotFoundError(
            f"{file} is missing: make it with `pokegen evaluate {checkpoint} --dataset FOLDER`"
        )
    return TypeAdapter(Evaluation).validate_json(file.read_bytes())
