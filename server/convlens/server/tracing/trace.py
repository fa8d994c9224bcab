"""What calls know of tracing. These classes are those of a server that traces nothing."""

from types import TracebackType
from typing import TYPE_CHECKING

from convlens.contract import Failure

if TYPE_CHECKING:
    from convlens.server.rpc import Call


class Trace:
    """The part that one call, or one request of a stream, has in a trace.

    As a context manager it ends with the block, by whatever that raises.
    """

    #: Names the trace in logs; empty where there is none.
    id = ""

    def part(self, call: "Call") -> "Call":
        """A request of a stream, made of the stream's call, with a part of its own."""
        return call

    def end(self, failure: Failure | None) -> None:
        """The call ended, well or with a failure; only the first end counts."""

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Tracer:
    """Traces the calls of a server."""

    def begin(self, call: "Call", tracestate: str) -> "Call":
        """The call with its trace, which goes on that of `call.traceparent` if there is one.

        Its `traceparent` then names this server's part, for those who go on with it.
        """
        del tracestate
        return call

    async def close(self) -> None:
        """Hands over what was not yet, where that takes no longer than a few seconds."""


UNTRACED = Trace()
