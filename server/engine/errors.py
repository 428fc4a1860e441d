"""What can go wrong with a submission, in the engine's own terms."""


class EngineError(Exception):
    """The base of everything that the engine raises on purpose."""


class PromptTooLongError(EngineError):
    """The prompt leaves no room for a single new token."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(f"the prompt is {tokens} tokens long and may be {limit} at most")
        self.tokens = tokens
        self.limit = limit


class EngineBusyError(EngineError):
    """There is more to do than can be promised: the queue is full, or would take longer than the reader waits.

    `retry_after`: whole seconds after which it makes sense to ask again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many are waiting; come back in {retry_after} s")
        self.retry_after = retry_after


class DeadlineExceededError(EngineError):
    """The reader's time was over before the text was done."""


class EngineFailedError(EngineError):
    """Computing this generation failed; others are not concerned."""


class EngineClosedError(EngineError):
    """The engine takes no submissions any more, and what it had not finished is lost."""


class NotEnoughMemoryError(EngineError):
    """The weights and the key/value cache of one sequence do not fit into the memory limit."""
