"""What parameters of fooling images must keep together."""

from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_methods_pb2 as methods


def check_generations(p: methods.Fooling, path: str) -> None:
    """Raises Failure INVALID_REQUEST where an evolution may not evaluate a single generation.

    Every default is filled in. `path` is where `p` stands in the request.
    """
    name = p.WhichOneof("encoding")
    if name is None or name == "gradient":
        return
    evolution = p.direct if name == "direct" else p.cppn
    if evolution.evaluations < evolution.offspring:
        words = f"is {evolution.evaluations}; must be at least offspring, {evolution.offspring}"
        raise invalid([Violation(field=f"{path}.{name}.evaluations", description=words)])
