"""Let a new checkpoint answer as soon as it lies where the settings look for it, or the registry's alias names it."""

import logging
import threading

from server.serving import ReloadRunsError, Serving

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 300.0  # seconds between two looks at what is refused


def watch(serving: Serving, seconds: float) -> None:
    """Look every so many seconds, from a thread of its own, until `serving` is closed.

    A look may read all weights before it refuses them: while it says the same, each pause is twice the last.
    """
    threading.Thread(target=_run, args=(serving, seconds), name="watch", daemon=True).start()


def _run(serving: Serving, seconds: float) -> None:
    refused, pause = "", seconds
    while not serving.closed.wait(pause):
        try:
            serving.reload()
            refused, pause = "", seconds
        except ReloadRunsError:
            continue
        except Exception as error:  # whatever is there, what answers goes on, and the next may be better
            why = str(error) or type(error).__name__
            if why != refused:  # once is enough
                logger.error("the checkpoint that lies there now is not taken: %s", why)
                pause = seconds
            refused, pause = why, min(2 * pause, max(seconds, LONGEST_PAUSE))
