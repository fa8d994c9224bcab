"""Workers tell each other of newer loads of their model, however long its name is."""

import pytest

from convlens.workers.triton.generation import Generation

LONG = "a_network_with_a_long_but_ordinary_name_of_timm.openai_ft_in12k@2026_11_21-inference"


@pytest.mark.parametrize("model", ["shapes@1-inference", LONG, "é" * 200])
def test_a_worker_sees_those_of_a_newer_load_of_its_model_alone(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would look again and again, and end this process.
    monkeypatch.setattr(Generation, "_watch", lambda self: None)
    first = Generation(model, "one", lambda: True)
    brother = Generation(model, "one", lambda: True)
    other = Generation(f"{model}2", "two", lambda: True)
    assert [each.is_replaced() for each in (first, brother, other)] == [False] * 3
    newer = Generation(model, "two", lambda: True)
    assert [each.is_replaced() for each in (first, brother, other)] == [True, True, False]
    assert not newer.is_replaced()
    for each in (first, brother, other, newer):
        each._sign.close()
