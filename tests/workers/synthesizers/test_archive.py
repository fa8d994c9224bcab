"""The archive, against the maximum over all that it was ever offered."""

import torch
from torch import Tensor

from convlens.workers.synthesizers.archive import Archive, Drawing, Elite

CLASSES = 6


def offered(generations: list[Tensor]) -> Archive[tuple[int, int]]:
    """What is left of pictures whose genome is their generation and row."""
    archive: Archive[tuple[int, int]] = Archive([None] * CLASSES)
    for generation, probabilities in enumerate(generations, 1):
        archive.offer(
            probabilities,
            generation,
            lambda row, generation=generation: Drawing((generation, row), torch.zeros(1, 1, 1)),
        )
    return archive


def draw(generations: int = 20, offspring: int = 7) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    # Few different numbers, so that many are equally good.
    numbers = torch.randint(1, 40, (generations, offspring, CLASSES), generator=generator)
    return list(numbers / 40)


def test_it_keeps_the_first_of_the_best_of_each_class() -> None:
    generations = draw()
    elites = offered(generations).elites
    shown = [
        (float(odds[cell]), generation, row)
        for cell in range(CLASSES)
        for generation, rows in enumerate(generations, 1)
        for row, odds in enumerate(rows)
    ]
    each = len(shown) // CLASSES
    late = 0
    for cell, elite in enumerate(elites):
        mine = shown[cell * each : (cell + 1) * each]
        odds, generation, row = max(mine, key=lambda picture: picture[0])
        assert elite is not None
        assert elite.drawing.genome == (generation, row)
        assert (elite.probability, elite.generation) == (odds, generation)
        late += generation > 1
    assert late, "nothing was ever replaced"


def test_it_never_becomes_worse() -> None:
    generations = draw()
    before = [0.0] * CLASSES
    for count in range(1, len(generations)):
        after = [e.probability for e in offered(generations[:count]).elites if e]
        assert all(new >= old for new, old in zip(after, before, strict=True))
        before = after


def test_a_probability_that_is_no_number_wins_nothing() -> None:
    odds = torch.full((2, CLASSES), float("nan"))
    assert offered([odds]).elites == [None] * CLASSES
    odds[1, 2] = 0.5
    archive = offered([odds])
    assert [elite is not None for elite in archive.elites] == [cell == 2 for cell in range(6)]
    assert archive.genomes == [(1, 1)]


def test_a_picture_that_wins_several_classes_is_drawn_once() -> None:
    drawn: list[int] = []

    def drawing(row: int) -> Drawing[int]:
        drawn.append(row)
        return Drawing(row, torch.zeros(1, 1, 1))

    archive: Archive[int] = Archive([None] * CLASSES)
    archive.offer(torch.tensor([[0.1] * CLASSES, [0.2] * CLASSES]), 1, drawing)
    assert drawn == [1]
    archive.offer(torch.tensor([[0.1] * CLASSES]), 2, drawing)
    assert drawn == [1]


def test_it_is_done_where_every_class_is() -> None:
    best = [Elite(Drawing(0, torch.zeros(1, 1, 1)), odds, 1) for odds in (0.5, 0.75)]
    assert Archive(best).is_done(0.5)
    assert not Archive(best).is_done(0.6)
    assert not Archive([*best, None]).is_done(0.0)
