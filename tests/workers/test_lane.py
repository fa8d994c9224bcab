"""Work beside the runner keeps its order, and what waits of it is bounded."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from convlens.workers.lane import MOST_BYTES, Lane


def test_what_later_work_replaces_is_not_done_where_too_much_waits() -> None:
    done: list[object] = []
    begun, go_on = Event(), Event()

    def first() -> None:
        begun.set()
        go_on.wait(10)

    with ThreadPoolExecutor(2) as executor:
        lane = Lane(executor)
        lane.submit(first)
        begun.wait(10)
        for number in range(100):
            lane.submit(lambda n=number: done.append(n), MOST_BYTES // 4, "preview")
            lane.submit(lambda n=number: done.append(f"item {n}"))
        go_on.set()
        lane.wait()
    assert [each for each in done if isinstance(each, int)] == [96, 97, 98, 99]
    assert done[-1] == "item 99" and len(done) == 104
