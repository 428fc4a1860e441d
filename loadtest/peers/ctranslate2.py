"""CTranslate2 with int8 weights and activations: static batches."""

import json
import time
from pathlib import Path

import ctranslate2

from loadtest.peers.protocol import Sampling, Seconds, Setup, main


class CTranslate2:
    """Its generator, which takes tokens as texts."""

    def __init__(self, model: Path, setup: Setup) -> None:
        self._generator = ctranslate2.Generator(
            str(model), compute_type=setup.variant, inter_threads=1, intra_threads=setup.threads
        )
        vocabulary = json.loads((model / "vocabulary.json").read_text())
        self._tokens: list[str] = vocabulary

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """As in `Peer`."""
        times: list[float] = []

        def note(result: "ctranslate2.GenerationStepResult") -> bool:
            times.append(time.monotonic())
            return False

        how = (
            {
                "sampling_topk": 0,
                "sampling_topp": sampling.top_p,
                "sampling_temperature": sampling.temperature,
            }
            if sampling.temperature
            else {"sampling_topk": 1}
        )
        began = time.monotonic()
        self._generator.generate_batch(
            [[self._tokens[token] for token in prompt] for prompt in prompts],
            min_length=length,
            max_length=length,
            include_prompt_in_result=False,
            callback=note,
            **how,
        )
        # It is called for every sequence of a step.
        first = times[len(prompts) - 1]
        return Seconds(first - began, times[-1] - first)


def convert(checkpoint: Path, target: Path, compute_type: str) -> None:
    """By its own converter."""
    converter = ctranslate2.converters.TransformersConverter(str(checkpoint))
    converter.convert(str(target), quantization=compute_type, force=True)


if __name__ == "__main__":
    main(convert, CTranslate2)
