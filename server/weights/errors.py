"""The one error that reading a checkpoint raises."""

from pathlib import Path


class CheckpointError(Exception):
    """A checkpoint that can't be served. `str()` is one line: the file, what is wrong in it, and the fix."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        super().__init__(" ".join(f"{path}: {problem}; {fix}".split()))


COPY_AGAIN = "the file is damaged or was not copied whole: copy the checkpoint again"
