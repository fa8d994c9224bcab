"""Checkpoints: what the methods of a job need to go on, as bytes that any replica can read."""

from collections.abc import Mapping, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from convlens.contract import digest
from convlens.contract.synthesis_question import question_alone
from convlens.contract.validation import Violation, invalid
from convlens.v1 import synthesis_pb2 as pb
from convlens.workers.network import ServedNetwork
from convlens.workers.synthesizers import Memory
from convlens.workers.synthesizers.memory import broken

QUESTION = "question"
OTHER_QUESTION = (
    "is that of another question; go on with the same network, method, parameters, canvas and seed "
    "(only steps and evaluations may be others), or send none to begin anew"
)


def question_of(request: pb.SynthesizeRequest, network: ServedNetwork) -> str:
    """A digest that requests have in common whose checkpoints fit one another.

    `request` has every default filled in.
    """
    return digest(network.facts.digest.encode(), question_alone(request))


def written(question: str, states: Sequence[Mapping[str, Tensor]]) -> bytes:
    """The states of all items of a job, in their order."""
    # Copies: safetensors refuses tensors of one memory, as a picture and the best one may be.
    tensors = {
        f"{number}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for number, state in enumerate(states)
        for name, tensor in state.items()
    }
    words = torch.frombuffer(bytearray(question.encode()), dtype=torch.uint8)
    return save({QUESTION: words, **tensors})


def read(data: bytes, question: str, count: int) -> list[Memory]:
    """The memory of each of so many items.

    Raises Failure INVALID_REQUEST where the bytes are no checkpoint, or that of another question.
    """
    try:
        tensors = load(data)
        found = tensors.pop(QUESTION).numpy().tobytes()
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError):
        # A RuntimeError is torch's, of a shape that no tensor can have.
        raise broken() from None
    if found != question.encode():
        raise invalid([Violation(field="checkpoint", description=OTHER_QUESTION)])
    states: list[dict[str, Tensor]] = [{} for _ in range(count)]
    positions = {str(number): number for number in range(count)}
    for name, tensor in tensors.items():
        number, _, own = name.partition("/")
        if number not in positions:
            raise broken()
        states[positions[number]][own] = tensor
    return [Memory(state) for state in states]
