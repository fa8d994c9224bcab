"""Versions that improve are told of in their order, whoever is ready first."""

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from convlens.workers.previews import Previews


def test_an_older_version_comes_no_more() -> None:
    previews, told = Previews(), []
    first, second, third = (previews.number("a") for _ in range(3))
    previews.tell("a", second, lambda: told.append(2))
    previews.tell("a", first, lambda: told.append(1))
    previews.tell("b", first, lambda: told.append(10))
    previews.tell("a", third, lambda: told.append(3))
    assert told == [2, 10, 3]


def test_nothing_comes_after_the_last_one() -> None:
    previews, told = Previews(), []
    previews.tell_last("a", lambda: told.append("end"))
    previews.tell("a", previews.number("a"), lambda: told.append("late"))
    assert told == ["end"]


def test_threads_keep_the_order() -> None:
    previews, told = Previews(), []
    numbers = [previews.number("a") for _ in range(500)]
    random.Random(0).shuffle(numbers)
    with ThreadPoolExecutor(8) as pool:
        for number in numbers:
            pool.submit(previews.tell, "a", number, partial(told.append, number))
    assert told == sorted(told) and told[-1] == 499


def test_only_the_newest_is_worth_writing() -> None:
    previews = Previews()
    first = previews.number("a")
    assert previews.is_newest("a", first)
    other, second = previews.number("b"), previews.number("a")
    assert [previews.is_newest("a", each) for each in (first, second)] == [False, True]
    assert previews.is_newest("b", other)
    previews.tell_last("a", lambda: None)
    assert not previews.is_newest("a", second)
