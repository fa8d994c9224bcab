"""Square: random squares, kept where they raise the lead."""

from convlens.v1 import attack_methods_pb2 as methods
from convlens.workers.attacks.attempt import Attempt, Best, Task
from convlens.workers.attacks.budget import budget_of
from convlens.workers.attacks.squares import Squares, squares_of
from convlens.workers.methods.randomness import generator_of
from convlens.workers.runner import Pass, Steps

# After these queries of 10000, the share that squares cover is halved.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(task: Task, p: methods.Square) -> Steps[Attempt]:
    """Searches from each start with as many queries as are allowed, and asks for scores alone.

    Where rounded pictures are to succeed, asking for those comes on top.
    Andriushchenko et al. 2019, arXiv:1912.00049, Algorithm 1.
    """
    best = Best(task.x)
    squares = squares_of(task, budget_of(task, p))
    for start in range(p.restarts):
        if (yield from _search(task, p, squares, best, start)):
            break
    return best.attempt()


def _search(task: Task, p: methods.Square, squares: Squares, best: Best, start: int) -> Steps[bool]:
    """One start; whether the attack is at its end."""
    found, highest = task.x, float("-inf")
    for query in range(p.queries):
        generator = generator_of(task.seed, "square", start, query)
        if query == 0:
            pixels = squares.first(generator)
        else:
            pixels = squares.next(found, share_at(query, p), generator)
        answer = yield Pass(pixels[None], so_far=best.attempt)
        best.steps += 1
        success = yield from task.accepts(pixels, answer.scores[0])
        lead = float(task.aim.lead(answer.scores))
        best.offer(pixels, success, lead)
        if success and task.stop_at_success:
            return True
        if lead > highest:
            found, highest = pixels, lead
    return False


def share_at(query: int, p: methods.Square) -> float:
    """The share of the picture that the square of a query covers."""
    done = query * 10_000 / p.queries if p.rescale_schedule else query
    return p.initial_share / 2 ** sum(done > halving for halving in _HALVINGS)
