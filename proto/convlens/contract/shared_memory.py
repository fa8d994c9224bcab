"""The shared memory through which Triton and its workers hand each other messages."""

# How far a worker's region grew beside a message and an answer of the same size; it never shrinks.
GROWTH = 3


def shared_memory(message_bytes: int, workers: int) -> int:
    """The bytes that the largest messages can take of it, one for each worker."""
    return GROWTH * message_bytes * workers
