"""Where what comes from elsewhere is kept: the folder `pokegen` of the user's cache."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.weights.errors import CheckpointError


def cache_folder() -> Path:
    """The folder, which need not be there. Source: the XDG Base Directory Specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pokegen"


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Let CheckpointError say which variable names `folder`, if that can't be written to meanwhile."""
    try:
        yield
    except OSError as error:
        if (
            error.errno is None
        ):  # none of the system's: requests' errors, and what `fetch` says, are OSErrors too
            raise
        raise CheckpointError(
            error.filename or folder,
            f"can't be written to: {error.strerror}",
            "let XDG_CACHE_HOME name a folder that can be, with room for the checkpoint",
        ) from error
