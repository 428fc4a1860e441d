"""The engine turns prompts into texts, for many readers at once, and knows nothing of HTTP."""

from typing import Literal

from server.engine.core import Model, SequentialCore
from server.engine.engine import Engine
from server.engine.errors import EngineBusyError, EngineError, EngineFailedError, PromptTooLongError
from server.engine.generation import FinishReason, Generation, Piece, Sample, Timing
from server.engine.gpt2 import GPT2
from server.engine.kv_blocks import blocks_for
from server.engine.kv_cache import KVCache
from server.engine.memory import memory_limit
from server.engine.sampling import MAX_SEED, MAX_TEMPERATURE, SamplingParams
from server.weights import Checkpoint

__all__ = [
    "MAX_SEED",
    "MAX_TEMPERATURE",
    "Engine",
    "EngineBusyError",
    "EngineError",
    "EngineFailedError",
    "EngineName",
    "FinishReason",
    "Generation",
    "Piece",
    "PromptTooLongError",
    "Sample",
    "SamplingParams",
    "Timing",
    "create_engine",
]

EngineName = Literal["numpy", "gpt2-simple"]

# The share of the memory limit that keys and values may take. The weights and the rest of the process have
# what remains.
KV_CACHE_SHARE = 0.4


def create_engine(checkpoint: Checkpoint, name: EngineName, *, max_running: int, max_waiting: int) -> Engine:
    """An engine for a checkpoint, which has proven itself by making one token.

    Raises CheckpointError where a tensor cannot be read, ImportError where the engine's optional packages are
    missing.
    """
    n_blocks = max_running * blocks_for(checkpoint.hparams.n_ctx)
    affordable = int(KV_CACHE_SHARE * memory_limit()) // KVCache.block_bytes(checkpoint.hparams)
    n_blocks = max(min(n_blocks, affordable), blocks_for(checkpoint.hparams.n_ctx))
    engine = Engine(
        SequentialCore(_load(checkpoint, name, n_blocks)),
        checkpoint.hparams,
        checkpoint.tokenizer,
        n_blocks=n_blocks,
        max_running=max_running,
        max_waiting=max_waiting,
    )
    try:
        engine.submit("", SamplingParams(length=1)).result()
    except Exception:
        engine.close()
        raise
    return engine


def _load(checkpoint: Checkpoint, name: EngineName, n_blocks: int) -> Model:
    if name == "gpt2-simple":
        from server.engine.gpt2_simple import GPT2Simple  # brings TensorFlow, which no other engine needs

        return GPT2Simple(checkpoint, n_blocks)
    return GPT2(checkpoint, n_blocks)
