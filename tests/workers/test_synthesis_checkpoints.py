"""What checkpoints hold, and what they refuse."""

import json

import pytest
import torch

from convlens.contract import Failure
from convlens.workers.synthesis.checkpoints import read, written

QUESTION = "question"


def test_what_is_written_is_read_again() -> None:
    states = [{"pixels": torch.rand(3, 4, 5), "step": torch.tensor(7)}, {"count": torch.tensor(0)}]
    found = read(written(QUESTION, states), QUESTION, 2)
    for memory, state in zip(found, states, strict=True):
        assert memory.state.keys() == state.keys()
        assert all(torch.equal(memory.state[name], state[name]) for name in state)


def test_tensors_may_be_the_same_parts_of_each_other_or_in_any_layout() -> None:
    pixels = torch.rand(3, 4, 5)
    state = {
        "pixels": pixels,
        "best": pixels,
        "part": pixels[1:],
        "turned": pixels.permute(2, 0, 1),
        "spread": torch.ones(1, 1, 1).expand(3, 4, 5),
    }
    [memory] = read(written(QUESTION, [state]), QUESTION, 1)
    assert all(torch.equal(memory.state[name], state[name]) for name in state)


def test_that_of_another_question_or_of_more_items_is_refused() -> None:
    data = written(QUESTION, [{"step": torch.tensor(1)}] * 2)
    for question, count in (("another", 2), (QUESTION, 1)):
        with pytest.raises(Failure, match="checkpoint"):
            read(data, question, count)


@pytest.mark.parametrize("cut", [0, 1, 8, 40, -1])
def test_what_is_cut_off_is_refused(cut: int) -> None:
    data = written(QUESTION, [{"step": torch.tensor(1)}])
    with pytest.raises(Failure, match="checkpoint is damaged"):
        read(data[:cut], QUESTION, 1)


def forged(name: str, shape: list[int], data: bytes = b"") -> bytes:
    """A well-formed file with one tensor more, which may lie about its shape."""
    words = QUESTION.encode()
    header = {
        "question": {"dtype": "U8", "shape": [len(words)], "data_offsets": [0, len(words)]},
        name: {
            "dtype": "U8",
            "shape": shape,
            "data_offsets": [len(words), len(words) + len(data)],
        },
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + words + data


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("9" * 5000 + "/x", [0]),
        ("1/x", [0]),
        ("-1/x", [0]),
        ("00/x", [0]),
        ("\u0660/x", [0]),
        ("x", [0]),
        ("0/x", [0, 2**62, 2**62]),
        ("0/x", [2**40]),
        ("0/x", [-1]),
    ],
)
def test_what_lies_about_itself_is_refused(name: str, shape: list[int]) -> None:
    [memory] = read(forged("0/x", [2], b"ab"), QUESTION, 1)
    assert memory.state["x"].tolist() == [97, 98]
    with pytest.raises(Failure, match="checkpoint is damaged"):
        read(forged(name, shape), QUESTION, 1)
