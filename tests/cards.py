"""A model card by hand, for tests of what shows it.

CARD, README, CURVE    card.json, README.md and curve.svg
write_card(directory)  writes the three, as `pokegen card` and `pokegen finetune` do
"""

import json
from pathlib import Path
from typing import Any

EVALUATION: dict[str, Any] = {
    "checkpoint": "run9",
    "checkpoint_digest": "0123456789ab",
    "engine": "numpy",
    "dataset": "jokes",
    "held_out_digest": "ba9876543210",
    "held_out_texts": 30,
    "held_out_words": 600,
    "held_out_bytes": 3000,
    "samples": 20,
    "samples_words": 500,
    "samples_ended": 0.9,
    "temperature": 0.7,
    "top_k": 40,
    "top_p": 0.0,
    "seed": 1,
    "length": 255,
    "perplexities": [
        {
            "model": model,
            "kind": kind,
            "digest": "0123456789ab",
            "tokens": 900,
            "perplexity_per_token": 2.0 ** (3 * bits),
            "perplexity_per_byte": 2.0**bits,
            "bits_per_byte": bits,
        }
        for model, kind, bits in (("run9", "checkpoint", 1.7), ("5-gram of jokes", "5-gram", 2.5))
    ],
    "samples_diversity": {
        "texts": 20,
        "words": 500,
        "distinct_1": 0.3,
        "distinct_2": 0.6,
        "distinct_3": 0.8,
        "distinct_4": 0.9,
        "self_bleu": 12.5,
    },
    "held_out_diversity": {
        "texts": 20,
        "words": 500,
        "distinct_1": 0.4,
        "distinct_2": 0.7,
        "distinct_3": 0.9,
        "distinct_4": 1.0,
        "self_bleu": None,
    },
    "copying": [
        {
            "training": "jokes",
            "digest": "0123456789ab",
            "documents": 270,
            "words": 5400,
            "samples_share_of_12_grams": 0.01,
            "samples_longest_run_median": 6.0,
            "samples_longest_run_max": 13,
            "held_out_share_of_12_grams": 0.0,
            "held_out_longest_run_median": 5.0,
            "held_out_longest_run_max": 9,
        }
    ],
}

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
    "evaluation": EVALUATION,
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
