"""Reading checkpoints that others wrote: gpt-2-simple and OpenAI (without TensorFlow), and Hugging Face."""

from server.weights.checkpoint import Checkpoint, open_checkpoint
from server.weights.errors import CheckpointError
from server.weights.layout import HParams
from server.weights.registry import find_checkpoint
from server.weights.tokenizer import Tokenizer

__all__ = ["Checkpoint", "CheckpointError", "HParams", "Tokenizer", "find_checkpoint", "open_checkpoint"]
