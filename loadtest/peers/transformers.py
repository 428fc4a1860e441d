"""Hugging Face's transformers on torch, in float32 or bfloat16: static batches."""

import time
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel, StoppingCriteria, StoppingCriteriaList

from loadtest.peers.protocol import Sampling, Seconds, Setup, main


class _Clock(StoppingCriteria):
    """Is asked after every token whether that was the last one, and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        self.times.append(time.monotonic())
        return torch.zeros(len(input_ids), dtype=torch.bool)


class Transformers:
    """Its `generate`, on tokens."""

    def __init__(self, model: Path, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        self._model = GPT2LMHeadModel.from_pretrained(model, dtype=getattr(torch, setup.variant))

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """As in `Peer`."""
        clock = _Clock()
        how = (
            {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
            if sampling.temperature
            else {"do_sample": False}
        )
        tokens = torch.tensor(prompts)
        began = time.monotonic()
        self._model.generate(  # type: ignore[misc] # its own models do not fit its type of `self`
            tokens,
            attention_mask=torch.ones_like(tokens),
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=0,
            stopping_criteria=StoppingCriteriaList([clock]),
            **how,
        )
        return Seconds(clock.times[0] - began, clock.times[-1] - clock.times[0])


def convert(checkpoint: Path, target: Path, _: str) -> None:
    """The format is its own: links."""
    for file in checkpoint.resolve().iterdir():
        (target / file.name).symlink_to(file)


if __name__ == "__main__":
    main(convert, Transformers)
