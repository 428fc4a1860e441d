"""Let a new checkpoint answer as soon as it lies where the settings look for it, or the registry's alias names it."""

import logging
import threading

from server.serving import ReloadRunsError, Serving

logger = logging.getLogger(__name__)


def watch(serving: Serving, seconds: float) -> None:
    """Look every so many seconds, from a thread of its own, until `serving` is closed."""
    threading.Thread(target=_run, args=(serving, seconds), name="watch", daemon=True).start()


def _run(serving: Serving, seconds: float) -> None:
    refused = ""
    while not serving.closed.wait(seconds):
        try:
            serving.reload()
            refused = ""
        except ReloadRunsError:
            continue
        except Exception as error:  # whatever is there, what answers goes on, and the next may be better
            why = str(error) or type(error).__name__
            if why != refused:  # once is enough
                logger.error("the checkpoint that lies there now is not taken: %s", why)
            refused = why
