"""Inversion: the picture whose code is nearest to a given one."""

from convlens.v1 import synthesis_methods_pb2 as methods
from convlens.workers.runner import Outputs, Steps
from convlens.workers.synthesizers.code import Code, Distance
from convlens.workers.synthesizers.descent import Descent
from convlens.workers.synthesizers.growth import Growth
from convlens.workers.synthesizers.task import Task


def inversion(task: Task, code: Code, p: methods.Inversion) -> Steps[Growth]:
    """Descends the relative squared distance of codes, an alpha norm and a total variation.

    Each step keeps most of the last one, and pixels stay in [0, 1]. Where nothing has become better
    for some steps, the rate is lowered (in the paper by hand). The best picture is returned; before
    the first step there is none. Mahendran & Vedaldi 2014, arXiv:1412.0035, sections 2 to 4.
    """
    descent = Descent(task, code, p)
    if descent.wanted is None:
        assert code.picture is not None, "a code comes from a picture, or is given"
        answer = yield code.ask(code.picture, None, descent.growth)
        outputs = Outputs(answer.scores, answer.captured)
        descent.wanted = code.read(outputs)[0].to(task.mean, copy=True)
    distance = Distance(code, descent.wanted)
    while descent.step < p.steps:
        seen = task.see(descent.pixels)
        answer = yield code.ask(seen, distance, descent.growth)
        descent.move(float(answer.worth), answer.slope[0])
    growth = descent.growth()
    assert growth, "there is at least one step"
    return growth
