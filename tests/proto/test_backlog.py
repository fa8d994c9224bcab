"""What waits for somebody slow is bounded, and nothing is lost that is not replaced."""

from collections.abc import Iterator
from typing import TypeVar

from convlens.contract.backlog import Backlog

T = TypeVar("T")


def taken(backlog: Backlog[T]) -> Iterator[T]:
    while (thing := backlog.take()) is not None:
        yield thing


def test_nothing_is_lost_below_the_bound() -> None:
    backlog = Backlog[str](30)
    for name in ("a1", "b1", "a2", "end"):
        backlog.put(name, 10, "" if name == "end" else name[0])
    assert [*taken(backlog)] == ["a1", "b1", "a2", "end"]


def test_beyond_the_bound_the_newest_of_each_topic_stays_and_all_without_one() -> None:
    backlog = Backlog[str](30)
    for number in range(100):
        backlog.put(f"preview {number}", 20, "preview")
        backlog.put(f"progress {number}", 1, "progress")
        backlog.put(f"item {number}", 1000)
    left = [*taken(backlog)]
    assert [name for name in left if name.startswith("preview")] == ["preview 99"]
    progress = [name for name in left if name.startswith("progress")]
    assert len(progress) <= 11 and progress[-1] == "progress 99"
    items = [name for name in left if name.startswith("item")]
    assert items == [f"item {number}" for number in range(100)]
    assert left[-3:] == ["preview 99", "progress 99", "item 99"]


def test_one_that_is_larger_than_the_bound_is_kept_until_it_is_replaced() -> None:
    backlog = Backlog[str](30)
    backlog.put("large", 100, "preview")
    assert backlog.take() == "large"
    backlog.put("large", 100, "preview")
    backlog.put("small", 10, "preview")
    backlog.put("next", 10, "preview")
    assert [*taken(backlog)] == ["small", "next"]
