"""Texts of a checkpoint, drawn through our own engine and kept in a file, so that drawing can be interrupted."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from finetune.files import replace
from server.engine import EngineName, SamplingParams, create_engine
from server.weights import Checkpoint

SAMPLES_FILE = "evaluation-samples.jsonl"

_RUNNING = 16  # at once, as in the service


@dataclass(frozen=True)
class Drawing:
    """How texts are drawn: the fields of SamplingParams, and what computes. Text i is drawn with `seed` + i."""

    checkpoint_digest: str
    engine: EngineName
    temperature: float
    top_k: int
    top_p: float
    seed: int
    length: int


@dataclass(frozen=True)
class Text:
    """One sample; `ended`: by `<|endoftext|>`, and not because there was no more room."""

    text: str
    ended: bool


def draw(checkpoint: Checkpoint, drawing: Drawing, count: int) -> list[Text]:
    """`count` texts from the empty prompt; those that evaluation-samples.jsonl has already are read from there.

    The file's first line is the drawing, the others are texts; it is begun anew when the drawing is another. Raises
    ValueError for parameters out of range, and what `create_engine` raises.
    """
    params = [
        SamplingParams(
            length=drawing.length,
            temperature=drawing.temperature,
            top_k=drawing.top_k,
            top_p=drawing.top_p,
            seed=drawing.seed + i,
        )
        for i in range(count)
    ]
    file = checkpoint.directory / SAMPLES_FILE
    texts = _read(file, drawing)
    if len(texts) >= count:
        return texts[:count]
    replace(file, "".join(json.dumps(line) + "\n" for line in [asdict(drawing), *map(asdict, texts)]))
    engine = create_engine(checkpoint, drawing.engine, max_running=_RUNNING, max_waiting=count)
    try:
        generations = [engine.submit("", each) for each in params[len(texts) :]]
        bar = tqdm(generations, "samples", count, initial=len(texts), unit="text", disable=None)
        with file.open("a", encoding="utf-8") as out:
            for generation in bar:
                (sample,) = generation.result()
                texts.append(Text(sample.text, sample.finish_reason == "stop"))
                out.write(json.dumps(asdict(texts[-1])) + "\n")
                out.flush()
    finally:
        engine.close()
    return texts


def _read(file: Path, drawing: Drawing) -> list[Text]:
    """The texts in `file`, none when it is missing or of another drawing; a line that a kill cut off is left out."""
    if not file.exists():
        return []
    first, *others = file.read_text(encoding="utf-8").split("\n")[:-1] or [""]
    if first != json.dumps(asdict(drawing)):
        return []
    return [Text(**json.loads(line)) for line in others]
