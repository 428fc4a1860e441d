"""What the machine can do at best, and what of that a step needs."""

from dataclasses import dataclass

from server.engine import EngineName, Isa
from server.engine.native import _core
from server.weights import HParams


@dataclass(frozen=True)
class Machine:
    """What the machine reached in loops that do nothing else.

    int8_macs_per_s: multiply-adds of int8, a second. bytes_per_s: bytes read from memory, a second.
    """

    int8_macs_per_s: float
    bytes_per_s: float

    def decode_ceiling(self, hparams: HParams, engine: EngineName, sequences: int, context: float) -> float:
        """The most tokens a second that `sequences` can make together, each of which attends to `context` tokens.

        A step reads each matrix once and each sequence's keys and values; and it multiplies a row for each sequence by
        each matrix and by that sequence's keys and values. Either can hide behind the other, so that a step lasts

            max(n (W + A) / int8_macs_per_s, b (W + n A) / bytes_per_s)   with A = 2 n_layer n_embd context

        seconds at least. n is the number of sequences, W of the weights in the matrices, the head's among them, A that
        of the numbers in one sequence's keys and values, and b the bytes of a number: 1 for int8, 4 for float32, for
        which the first term is generous. (The roofline: Williams, Waterman and Patterson, CACM 52(4), 2009.)
        """
        weights = matrix_weights(hparams)
        attended = 2 * hparams.n_layer * hparams.n_embd * context
        computing = sequences * (weights + attended) / self.int8_macs_per_s
        reading = (1 if engine == "int8" else 4) * (weights + sequences * attended) / self.bytes_per_s
        return sequences / max(computing, reading)


def matrix_weights(hparams: HParams) -> int:
    """How many weights a token is multiplied by: 12 C^2 a layer (C to 3C, C to C, C to 4C, 4C to C), V C the head."""
    channels = hparams.n_embd
    return 12 * hparams.n_layer * channels**2 + hparams.n_vocab * channels


def measure_machine(isa: Isa, threads: int, seconds: float = 2.0) -> Machine:
    """Measure this one in about `seconds`. Raises ValueError for an instruction set that it does not have."""
    return Machine(*_core.ceilings(isa, threads, seconds))
