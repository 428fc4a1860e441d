"""The one error that reading a checkpoint raises."""

from pathlib import Path

LONGEST = 1000  # characters of a message: an index may tell names of files as long as itself


class CheckpointError(Exception):
    """A checkpoint that can't be served. `str()` is one line: the file, what is wrong in it, and the fix."""

    def __init__(self, path: Path | str, problem: str, fix: str) -> None:
        line = " ".join(f"{path}: {problem}; {fix}".split())
        # A damaged file's own words may be in it: they are to move no cursor, and to be of every encoding.
        line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
        if len(line) > LONGEST:
            line = f"{line[: LONGEST // 2]} ... {line[-(LONGEST // 2) + 5 :]}"
        super().__init__(line)


COPY_AGAIN = "the file is damaged or was not copied whole: copy the checkpoint again"
