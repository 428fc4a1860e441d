"""The engine turns prompts into texts, for many readers at once, and knows nothing of HTTP."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from server.engine.core import SequentialCore
from server.engine.cpus import usable_cpus
from server.engine.engine import Engine, Place, Statistics
from server.engine.errors import (
    DeadlineExceededError,
    EngineBusyError,
    EngineClosedError,
    EngineError,
    EngineFailedError,
    NotEnoughMemoryError,
    PromptTooLongError,
)
from server.engine.generation import FinishReason, Generation, Piece, Sample, Timing
from server.engine.gpt2 import GPT2
from server.engine.kv_cache import KVCache
from server.engine.logprobs import MAX_LOGPROBS, TokenLogprobs
from server.engine.memory import MIB, MemoryPlan, cache_blocks, memory_limit
from server.engine.native import ISAS, Isa, NativeCore, supported_isas
from server.engine.sampling import MAX_SEED, MAX_TEMPERATURE, SamplingParams
from server.weights import Checkpoint, HParams
from server.weights.layout import tensor_shapes

__all__ = [
    "ARITHMETIC",
    "ISAS",
    "MAX_LOGPROBS",
    "MAX_SEED",
    "MAX_TEMPERATURE",
    "DeadlineExceededError",
    "Engine",
    "EngineBusyError",
    "EngineClosedError",
    "EngineError",
    "EngineFailedError",
    "EngineName",
    "FinishReason",
    "Generation",
    "Isa",
    "MemoryPlan",
    "NotEnoughMemoryError",
    "Piece",
    "Place",
    "PromptTooLongError",
    "Sample",
    "SamplingParams",
    "Statistics",
    "Timing",
    "TokenLogprobs",
    "create_engine",
    "load_model",
    "plan_memory",
    "supported_isas",
]

if TYPE_CHECKING:
    from server.engine.gpt2_simple import GPT2Simple

# int8 and float32 are the native core, numpy the reference, gpt2-simple the oracle.
EngineName = Literal["int8", "float32", "numpy", "gpt2-simple"]

# To be raised with every change by which one of them may give another text for the same seed; a test asks for it.
ARITHMETIC = 2

# What the process takes beside weights and cache: Python and its libraries, room for a step's activations, and 4 MiB of
# answers that the service keeps.
PROCESS_BYTES = {"int8": 196 * MIB, "float32": 196 * MIB, "numpy": 260 * MIB, "gpt2-simple": 1028 * MIB}


def plan_memory(hparams: HParams, name: EngineName, max_running: int) -> MemoryPlan:
    """What memory the engine may take. Raises NotEnoughMemoryError, and ValueError as `load_model`."""
    if name in ("int8", "float32"):
        block_bytes = NativeCore.block_bytes(hparams, name)
        model_bytes = NativeCore.bytes_needed(hparams, name, max_running)
    else:
        block_bytes = KVCache.block_bytes(hparams)
        model_bytes = 4 * sum(math.prod(shape) for shape in tensor_shapes(hparams).values())
    limit = memory_limit()
    n_blocks = cache_blocks(
        hparams,
        max_running,
        block_bytes=block_bytes,
        other_bytes=PROCESS_BYTES[name] + model_bytes,
        limit=limit,
    )
    return MemoryPlan(model_bytes, block_bytes, n_blocks, limit, PROCESS_BYTES[name])


def create_engine(
    checkpoint: Checkpoint,
    name: EngineName,
    *,
    max_running: int,
    max_waiting: int,
    max_wait: float = math.inf,
    pace: float = 0.0,
    threads: int = 0,
    isa: Isa = "auto",
    plan: MemoryPlan | None = None,
    usable_blocks: int | None = None,
    on_done: Callable[[Generation], None] = lambda _: None,
    on_crash: Callable[[], None] = lambda: None,
) -> Engine:
    """An engine for a checkpoint, which has proven itself by making a few tokens.

    threads and isa are `load_model`'s, plan is `plan_memory`'s, usable_blocks is how many of its blocks may be used
    until `Engine.limit_blocks` says otherwise, and the other arguments are `Engine`'s. Raises what `load_model` raises,
    NotEnoughMemoryError, and EngineFailedError where the first token fails.
    """
    n_blocks = (plan or plan_memory(checkpoint.hparams, name, max_running)).n_blocks
    model = load_model(checkpoint, name, n_blocks, threads, isa)
    engine = Engine(
        model if isinstance(model, NativeCore) else SequentialCore(model),
        checkpoint.hparams,
        checkpoint.tokenizer,
        n_blocks=n_blocks,
        max_running=max_running,
        max_waiting=max_waiting,
        max_wait=max_wait,
        pace=pace,
        on_done=on_done,
        on_crash=on_crash,
    )
    if usable_blocks is not None:
        engine.limit_blocks(usable_blocks)
    try:
        # From here on the engine knows its speed, on which its promises rest: that of several texts, for one alone is
        # far slower than each of a few, and the first crowd would be thought too large.
        texts = min(32, max_running) if isinstance(model, NativeCore) else 1
        engine.submit("", SamplingParams(length=6, nsamples=texts, ignore_end_of_text=True)).result()
    except BaseException:
        engine.close()
        raise
    return engine


def load_model(
    checkpoint: Checkpoint, name: EngineName, n_blocks: int, threads: int = 0, isa: Isa = "auto"
) -> "NativeCore | GPT2 | GPT2Simple":
    """The model that an engine computes, with a key/value cache for `n_blocks` blocks.

    threads: how many compute; 0 stands for as many as there are processors. isa: their instruction set. Both concern
    the native core alone. Raises CheckpointError where a tensor cannot be read, ValueError where the native core can't
    compute with such sizes or the processor lacks the instruction set, and ImportError where the engine's optional
    packages are missing.
    """
    if name in ("int8", "float32"):
        return NativeCore(checkpoint, name, n_blocks, threads or usable_cpus(), isa)
    if name == "gpt2-simple":
        from server.engine.gpt2_simple import GPT2Simple  # brings TensorFlow, which no other engine needs

        return GPT2Simple(checkpoint, n_blocks)
    return GPT2(checkpoint, n_blocks)
