"""The archive, against the maximum over all that it was ever offered."""

import torch
from torch import Tensor

from convlens.workers.synthesizers.archive import Archive, Elite

CLASSES, LOOKS = 6, 3
Genome = tuple[int, int]


def draw(generations: int = 20, offspring: int = 7) -> list[tuple[Tensor, list[int]]]:
    """Probabilities and looks of each generation."""
    generator = torch.Generator().manual_seed(0)
    # Few different numbers, so that many are equally good.
    numbers = torch.randint(1, 40, (generations, offspring, CLASSES), generator=generator) / 40
    looks = torch.randint(LOOKS, (generations, offspring), generator=generator)
    return list(zip(numbers, looks.tolist(), strict=True))


def offered(generations: list[tuple[Tensor, list[int]]]) -> Archive[Genome]:
    """What is left of pictures whose genome is their generation and row."""
    archive: Archive[Genome] = Archive(CLASSES)
    for generation, (odds, looks) in enumerate(generations, 1):

        def genome(row: int, generation: int = generation) -> Genome:
            return generation, row

        archive.offer(odds, looks, generation, genome)
    return archive


def shown(
    generations: list[tuple[Tensor, list[int]]], position: int
) -> list[tuple[float, int, Genome]]:
    """How good all pictures are for a class, with their looks and genomes."""
    return [
        (float(chances[position]), look, (generation, row))
        for generation, (odds, looks) in enumerate(generations, 1)
        for row, (chances, look) in enumerate(zip(odds, looks, strict=True))
    ]


def test_each_cell_keeps_the_first_of_its_best() -> None:
    generations = draw()
    elites = offered(generations).elites
    assert [elite.cell for elite in elites] == [
        (c, n) for c in range(CLASSES) for n in range(LOOKS)
    ]
    for elite in elites:
        mine = [each for each in shown(generations, elite.cell[0]) if each[1] == elite.cell[1]]
        odds, _, genome = max(mine, key=lambda picture: picture[0])
        assert (elite.genome, elite.probability, elite.generation) == (genome, odds, genome[0])
    assert any(elite.generation > 1 for elite in elites), "nothing was ever replaced"


def test_the_best_of_a_class_is_the_best_of_all_looks() -> None:
    generations = draw()
    best = offered(generations).best()
    looks = set[int]()
    for position, elite in enumerate(best):
        odds, _, genome = max(shown(generations, position), key=lambda picture: picture[0])
        assert elite is not None
        assert (elite.probability, elite.generation) == (odds, genome[0])
        looks.add(elite.cell[1])
    assert len(looks) > 1


def test_it_never_becomes_worse() -> None:
    generations = draw()
    before = [0.0] * CLASSES
    for count in range(1, len(generations)):
        after = [e.probability for e in offered(generations[:count]).best() if e]
        assert all(new >= old for new, old in zip(after, before, strict=True))
        before = after


def test_a_probability_that_is_no_number_wins_nothing() -> None:
    odds = torch.full((2, CLASSES), float("nan"))
    assert offered([(odds, [0, 0])]).best() == [None] * CLASSES
    odds[1, 2] = 0.5
    archive = offered([(odds, [0, 1])])
    assert [elite is not None for elite in archive.best()] == [each == 2 for each in range(6)]
    assert [(elite.cell, elite.genome) for elite in archive.elites] == [((2, 1), (1, 1))]


def test_a_genome_that_wins_several_classes_is_asked_for_once() -> None:
    asked: list[int] = []

    def genome(row: int) -> int:
        asked.append(row)
        return row

    archive: Archive[int] = Archive(CLASSES)
    archive.offer(torch.tensor([[0.2] * CLASSES, [0.1] * CLASSES]), [0, 0], 1, genome)
    assert asked == [0]
    archive.offer(torch.tensor([[0.1] * CLASSES]), [0], 2, genome)
    assert asked == [0]


def few() -> Archive[Genome]:
    """The first class is at 0.5, the second at 0.75."""
    odds = {(0, 0): 0.5, (0, 1): 0.25, (1, 0): 0.75, (1, 2): 0.1, (1, 3): 0.2}
    return Archive(2, [Elite(cell, cell, chance, 1) for cell, chance in odds.items()])


def test_it_is_done_where_every_class_has_a_look_that_is() -> None:
    assert few().is_done(0.5)
    assert not few().is_done(0.6)
    assert not Archive(3, few().elites).is_done(0.0)


def share(parents: list[Genome], position: int) -> float:
    return sum(genome[0] == position for genome in parents) / len(parents)


def test_half_of_the_parents_are_of_classes_that_are_not_done() -> None:
    parents = few().parents(4000, 0.6, torch.Generator().manual_seed(0))
    # Half of those, and of the other half the two of five that are theirs.
    assert abs(share(parents, 0) - (0.5 + 0.5 * 2 / 5)) < 0.03
    assert len(set(parents)) == 5


def test_where_all_are_done_or_none_is_each_is_a_parent_as_often() -> None:
    for confidence in (0.2, 0.9):
        parents = few().parents(4000, confidence, torch.Generator().manual_seed(0))
        assert abs(share(parents, 0) - 2 / 5) < 0.03
