"""What can go wrong with an evaluation, sorted by what its caller should do about it."""

from __future__ import annotations


class EvaluationError(Exception):
    """Root of the application's errors."""


class TransientError(EvaluationError):
    """The same call may succeed later: try again.

    `retry_after_s` is how long the other side asked us to wait, None when it did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(EvaluationError):
    """The same call will fail again: do not retry, change the input or the configuration."""


class DeadlineExceeded(EvaluationError):
    """The time allowed was used up; another try would use it up again."""


def message_of(error: BaseException) -> str:
    """The message of an error, or its class where it has none, as PostgreSQL can store it."""
    text = str(error) or type(error).__name__
    # No null character and no half of a surrogate pair: a message may quote anything.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
