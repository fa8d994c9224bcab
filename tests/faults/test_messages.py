"""Every request message of the contract, spoiled: each ends in an answer or in a known error."""

from collections.abc import Callable
from random import Random

import pytest
from google.protobuf.message import Message

from convlens.contract.errors import reason_name
from convlens.server.contract import RPCS, Rpc
from tests.faults.exploring import explore, few_or_many
from tests.faults.mutations import spoil, spoil_bytes
from tests.faults.seeds import requests_of
from tests.faults.target import Target

# Calls that are made side by side, since many take all the time that the server gives them.
CROWD = 8
# Examples for each RPC of each kind: 15 RPCs, 2 kinds and 8 calls each make 1 200, or 30 000.
FEW, MANY = 5, 125


def copies(messages: list[Message]) -> list[Message]:
    made = [type(message)() for message in messages]
    for copy, message in zip(made, messages, strict=True):
        copy.CopyFrom(message)
    return made


@pytest.mark.parametrize("path", RPCS)
def test_what_the_others_begin_with_is_right(target: Target, path: str) -> None:
    rpc = RPCS[path]
    for messages in requests_of(rpc):
        bodies = [message.SerializeToString() for message in messages]
        reasons = {reason_name(failure.reason) for failure in target.ask_all(rpc, [bodies])}
        assert reasons <= {"DEADLINE_EXCEEDED", "DEADLINE_TOO_SHORT", "NETWORK_NOT_LOADABLE"}, (
            messages
        )


@few_or_many(FEW, MANY)
@pytest.mark.parametrize("path", RPCS)
def test_spoiled_fields(target: Target, path: str, examples: int) -> None:
    rpc = RPCS[path]
    valid = requests_of(rpc)

    def spoiled(random: Random) -> list[bytes]:
        messages = copies(random.choice(valid))
        for _ in range(random.randrange(1, 5)):
            spoil(random.choice(messages), random)
        return [message.SerializeToString() for message in messages]

    check_calls(target, rpc, examples, spoiled)


@few_or_many(FEW, MANY)
@pytest.mark.parametrize("path", RPCS)
def test_spoiled_bytes(target: Target, path: str, examples: int) -> None:
    rpc = RPCS[path]
    valid = [[message.SerializeToString() for message in each] for each in requests_of(rpc)]

    def spoiled(random: Random) -> list[bytes]:
        bodies = list(random.choice(valid))
        for _ in range(random.randrange(1, 4)):
            at = random.randrange(len(bodies))
            bodies[at] = spoil_bytes(bodies[at], random.choice(valid)[-1], random)
        return bodies

    check_calls(target, rpc, examples, spoiled)


def check_calls(
    target: Target, rpc: Rpc, examples: int, spoiled: Callable[[Random], list[bytes]]
) -> None:
    """Each crowd of calls ends in known errors, and the server is as it was before."""

    def check(random: Random) -> None:
        target.ask_all(rpc, [spoiled(random) for _ in range(CROWD)])

    with target.flat():
        explore(examples, check)
