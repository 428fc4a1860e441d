"""A model card by hand, for tests of what shows it.

CARD, README, CURVE    card.json, README.md and curve.svg
write_card(directory)  writes the three, as `pokegen card` and `pokegen finetune` do
"""

import json
from pathlib import Path
from typing import Any

CARD: dict[str, Any] = {
    "title": "Jokes",
    "summary": "A small GPT-2 that tells jokes.",
    "language": ["en"],
    "licence": {"id": "mit", "name": None, "link": None, "terms": "As you like."},
    "tags": ["gpt2"],
    "base_model": None,
    "data": [{"name": "jokes", "description": "Short ones.", "source": "ourselves", "licence": "MIT"}],
    "intended_use": "Laughter.",
    "out_of_scope_use": "Funerals.",
    "caveats": ["Some are old.", "Größe und Witz: „…“"],
    "how_it_was_made": "By `pokegen finetune`.",
    "name": "run9",
    "parameters": 1234,
    "hparams": {"n_vocab": 512, "n_ctx": 256, "n_embd": 64, "n_head": 4, "n_layer": 2},
    "training": {"trainer": "torch", "learning_rate": 0.004, "kept step": 20},
    "curve": [
        {
            "step": step,
            "tokens": 2048 * step,
            "training_loss": 5.0 - step / 10,
            "held_out_bits_per_byte": 1.9 - step / 100,
        }
        for step in (10, 20)
    ],
    "evaluation": {
        "dataset": "jokes",
        "held_out_texts": 30,
        "perplexities": [{"model": "run9", "bits_per_byte": 1.7}],
    },
    "samples": {
        "seed": 1,
        "length": 256,
        "temperature": 0.7,
        "top_k": 40,
        "top_p": 0.0,
        "texts": [{"prefix": "A duck", "text": " walks into a bar.", "finish_reason": "stop"}],
    },
}

README = """---
license: mit
language: [en]
---

# run9: Jokes

A small GPT-2 that tells jokes.

| model | bits a byte |
|---|---:|
| run9 | 1.7 |

![Loss](curve.svg)

> **A duck** walks into a bar.
"""

CURVE = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 2 1"><path d="M0 0L2 1" style="stroke: red"/></svg>\n'


def write_card(directory: Path) -> None:
    """README.md, card.json and curve.svg."""
    (directory / "README.md").write_text(README, encoding="utf-8")
    (directory / "card.json").write_text(json.dumps(CARD), encoding="utf-8")
    (directory / "curve.svg").write_text(CURVE, encoding="utf-8")
