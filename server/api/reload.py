"""POST /reload: read the checkpoint and the API keys again. nginx does not pass it on: it is the operator's."""

from http import HTTPStatus
from typing import Any

from flask import Blueprint, current_app

from server.api.keys import Gate
from server.api.problems import ProblemError
from server.engine import EngineError
from server.keys import read_keys
from server.serving import ReloadRunsError, get_serving
from server.settings import SettingsError
from server.weights import CheckpointError

PATH = "/reload"

blueprint = Blueprint("reload", __name__)

# What `load` and `read_keys` raise: the last three are of a package, of memory and of a thread that there isn't.
_NOT_TO_BE_HAD = (
    SettingsError,
    CheckpointError,
    EngineError,
    OSError,
    ValueError,
    ImportError,
    MemoryError,
    RuntimeError,
)


@blueprint.post(PATH)
def reload() -> dict[str, Any]:
    """Let the checkpoint of the settings answer, if another one lies there now, and the keys of their file.

    Answers when it does. Where either can't be had, both stay as they are: 422, with what to mend. `keys` is how many
    there are, None where the service was started without.
    """
    serving = get_serving()
    gate: Gate | None = current_app.extensions["gate"]
    try:
        keys = read_keys(current_app.extensions["settings"]) if gate else None
        is_new = serving.reload()
    except ReloadRunsError as error:
        raise ProblemError(HTTPStatus.CONFLICT, f"{error}.") from error
    except _NOT_TO_BE_HAD as error:
        # Python's MemoryError, for one, has no words.
        why = str(error) or type(error).__name__
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"It stays as it was: {why}") from error
    if gate and keys:
        gate.open_to(keys)
    served = serving.current
    return {
        "model": served.model,
        "fingerprint": served.fingerprint,
        "is_new": is_new,
        "keys": len(keys.entries) if keys else None,
    }
