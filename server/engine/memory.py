"""How much memory this process may use, and how much of it the key/value cache gets."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from server.engine.cgroup import own_groups
from server.engine.errors import NotEnoughMemoryError
from server.engine.kv_blocks import blocks_for
from server.weights import HParams

# Bytes, in cgroup v2 and v1. https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
LIMITS = ("memory.max", "memory.limit_in_bytes")

MIB = 2**20


@dataclass(frozen=True)
class MemoryPlan:
    """What an engine may take, in bytes: its model, and n_blocks blocks of the key/value cache."""

    model_bytes: int
    block_bytes: int
    n_blocks: int
    limit: int  # of all that this process takes
    process_bytes: int  # what it takes beside engines

    def share(self, other: "MemoryPlan", its_blocks: int, hparams: HParams) -> tuple[int, int]:
        """How many blocks this engine may use beside another that has `its_blocks`, and how many that one.

        Both get half of what is left. Raises NotEnoughMemoryError where that is less than a sequence of n_ctx tokens
        takes.
        """
        taken = self.process_bytes + other.model_bytes + its_blocks * other.block_bytes
        left = self.limit - taken - self.model_bytes
        one_sequence = blocks_for(hparams.n_ctx)
        if left < one_sequence * self.block_bytes:
            needed = self.model_bytes + one_sequence * self.block_bytes
            raise NotEnoughMemoryError(
                f"the memory limit is {self.limit // MIB} MiB, of which {taken // MIB} MiB are taken until the last"
                f" texts of the present checkpoint are done, and the new one needs {needed // MIB} MiB: allow more"
                " memory, or restart the service"
            )
        mine = min(max(left // 2 // self.block_bytes, one_sequence), self.n_blocks)
        theirs = its_blocks + (left - mine * self.block_bytes) // other.block_bytes
        return mine, min(theirs, other.n_blocks)


def memory_limit(groups: Iterable[Path] | None = None) -> int:
    """The limit in bytes: the smallest of the machine's memory and what the control groups allow.

    groups: their directories; the process's own where none are given.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in own_groups("memory") if groups is None else groups:
        for name in LIMITS:
            try:
                limits.append(int((group / name).read_text()))
            except (OSError, ValueError):  # not this version of cgroups; or "max": no limit
                continue
    return min(limits)


def cache_blocks(
    hparams: HParams, max_running: int, *, block_bytes: int, other_bytes: int, limit: int
) -> int:
    """How many blocks the cache gets: enough for `max_running` whole sequences, or what fits into `limit` bytes.

    block_bytes: the size of a block. other_bytes: what weights and process take. Raises NotEnoughMemoryError where
    not even one sequence of n_ctx tokens fits.
    """
    one_sequence = blocks_for(hparams.n_ctx)
    affordable = (limit - other_bytes) // block_bytes
    if affordable < one_sequence:
        raise NotEnoughMemoryError(
            f"the memory limit is {limit // MIB} MiB, but weights and process take {other_bytes // MIB} MiB and one"
            f" sequence of {hparams.n_ctx} tokens takes {one_sequence * block_bytes // MIB} MiB: allow more memory,"
            " or take a smaller checkpoint"
        )
    return min(max_running * one_sequence, affordable)
