"""What becomes of a picture that failed, in commands that go through many."""

from typing import Any

from convlens.client import (
    ConvLensError,
    FailedPrecondition,
    InvalidImage,
    InvalidRequest,
    MessageTooLarge,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unimplemented,
)

# Errors that every picture would have, and invalid requests that are not about the picture.
OF_ALL = (NotFound, FailedPrecondition, PermissionDenied, Unauthenticated, Unimplemented)
OF_ONE = (InvalidImage, MessageTooLarge)


def is_of_all(error: ConvLensError) -> bool:
    """Whether every other picture would have the same error."""
    of_request = isinstance(error, InvalidRequest) and not isinstance(error, OF_ONE)
    return of_request or isinstance(error, OF_ALL)


def is_own(error: ConvLensError) -> bool:
    """Whether it is the picture's own error, which it would have again."""
    return isinstance(error, OF_ONE)


def end_if_of_all(result: object) -> None:
    """Raises an error that is not the picture's own."""
    if isinstance(result, ConvLensError) and is_of_all(result):
        result.index = None
        raise result


def error_json(error: ConvLensError) -> dict[str, Any]:
    """An error as the command's JSON has it."""
    return {"reason": error.reason, "code": error.code.name, "message": error.message}
