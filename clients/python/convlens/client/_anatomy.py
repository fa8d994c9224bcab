"""What a network is made of, as the SDK returns it; every figure is for one image."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FieldExtent:
    """What a unit sees along one axis, in pixels of the input; `offset` is from the first one."""

    size: int
    jump: int
    offset: float


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What one unit of a layer sees, before it is cut at the borders of the input."""

    vertical: FieldExtent
    horizontal: FieldExtent


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a network: a module, or a function that the network's own code calls."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    forward_bytes: int
    training_bytes: int
    receptive_field: ReceptiveField | None
    supports_features: bool
    supports_deconvnet: bool
    supports_grad_cam: bool


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes that training with momentum needs; the first two for each image of a batch."""

    activation_bytes: int
    activation_gradient_bytes: int
    parameter_bytes: int
    parameter_gradient_bytes: int
    momentum_bytes: int


@dataclass(frozen=True, slots=True)
class DesignWarning:
    """Something that the lectures on ConvNets advise against; `kind` is "stride_skips" or such."""

    layer: str
    kind: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What a network is made of: its layers in the order of computation, and what they cost."""

    layers: tuple[Layer, ...] = field(repr=False)
    parameters: int
    multiply_adds: int
    activations: int
    forward_bytes: int
    training_bytes: int
    training_memory: TrainingMemory
    warnings: tuple[DesignWarning, ...]
    #: "INPUT -> [CONV -> RELU -> POOL]*3 -> FC"; empty where the network is no plain chain.
    grammar: str
