"""What there is of pictures while they grow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """A picture so far: `pixels` [channels, height, width] in [0, 1] on its canvas.

    `terms` are those of the loss by their names, each with its weight and sign; their sum is made
    small. `objective` is what is looked for: a score, an activation or a relative distance. What a
    method does not know is None.
    """

    pixels: Tensor
    steps: int
    objective: float
    terms: Mapping[str, float] = field(default_factory=dict[str, float])
    probability: float | None = None
    gradient_norm: float | None = None
    activation: float | None = None
    code_distance: float | None = None
    psnr: float | None = None
    confident: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Growth:
    """How far a method has come after `step` steps or generations.

    `sketches` has one entry for each picture of the method, None for a class without one yet.
    `state` is all that is needed to go on from here, bit for bit; nobody changes its tensors.
    """

    step: int
    sketches: Sequence[Sketch | None]
    state: Mapping[str, Tensor]

    @property
    def size(self) -> int:
        """The bytes that it holds."""
        pixels = [sketch.pixels for sketch in self.sketches if sketch]
        return sum(tensor.nbytes for tensor in (*pixels, *self.state.values()))
