"""The one error that reading a checkpoint raises."""

from pathlib import Path


class CheckpointError(Exception):
    """A checkpoint that can't be served. `str()` is one line: the file, what is wrong in it, and the fix."""

    def __init__(self, path: Path, problem: str, fix: str) -> None:
        line = " ".join(f"{path}: {problem}; {fix}".split())
        # A damaged file's own words may be in it: they are to move no cursor, and to be of every encoding.
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in line))


COPY_AGAIN = "the file is damaged or was not copied whole: copy the checkpoint again"
