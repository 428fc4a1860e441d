"""OpenVINO GenAI: continuous batching, int8 weights and, as is its default, int8 keys and values."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino
import openvino_genai

from loadtest.peers.protocol import SEQUENCE, Sampling, Seconds, Setup, main

BLOCK = 32  # tokens, on a CPU


class OpenVINO:
    """A continuous-batching pipeline, which is given tokens and gives tokens back."""

    def __init__(self, model: Path, setup: Setup) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = setup.sequences
        scheduler.num_kv_blocks = setup.sequences * SEQUENCE // BLOCK + 1  # one is its own
        scheduler.max_num_batched_tokens = setup.sequences * setup.context  # all begin with the same step
        scheduler.enable_prefix_caching = False  # prompts are to be read, every time
        properties = {"INFERENCE_NUM_THREADS": setup.threads}
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(str(model), scheduler, "CPU", properties)

    def generate(self, prompts: list[list[int]], length: int, sampling: Sampling) -> Seconds:
        """As in `Peer`."""
        config = openvino_genai.GenerationConfig(max_new_tokens=length, ignore_eos=True)
        if sampling.temperature:
            config.do_sample, config.temperature, config.top_p = True, sampling.temperature, sampling.top_p
        began = time.monotonic()
        handles = [
            self._pipeline.add_request(number, openvino.Tensor(np.array([prompt])), config)
            for number, prompt in enumerate(prompts)
        ]
        steps = []
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            steps.append(time.monotonic())
        del handles  # a request whose handle is gone is dropped
        first = steps[-length]
        return Seconds(first - began, steps[-1] - first)


def convert(checkpoint: Path, target: Path, variant: str) -> None:
    """By optimum-intel, as its documentation says it."""
    tool = Path(sys.executable).with_name("optimum-cli")
    command = [tool, "export", "openvino", "--model", checkpoint, "--task", "text-generation-with-past"]
    command += ["--weight-format", variant, "--disable-convert-tokenizer", target]
    subprocess.run(list(map(str, command)), check=True)  # noqa: S603


if __name__ == "__main__":
    main(convert, OpenVINO)
