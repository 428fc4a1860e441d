"""What can go wrong with a submission, in the engine's own terms."""


class EngineError(Exception):
    """The base of everything that the engine raises on purpose."""


class EngineBusyError(EngineError):
    """The waiting queue is full.

    `retry_after`: whole seconds until, at the measured speed, all that was admitted is done.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; come back in {retry_after} s")
        self.retry_after = retry_after


class PromptTooLongError(EngineError):
    """The prompt leaves no room for a single new token."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt is {tokens} tokens long and may be {limit} at most")
        self.tokens = tokens
        self.limit = limit


class EngineFailedError(EngineError):
    """The step that this generation took part in raised, or the engine was closed before it was done."""
