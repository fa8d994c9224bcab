"""Kinds of torch functions, by plain name, that the anatomy tells apart."""

CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
# Those of windows over maps.
MAX_POOLS = frozenset({"max_pool2d", "max_pool2d_with_indices"})
POOLS = MAX_POOLS | {"avg_pool2d"}
ADAPTIVE_POOLS = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d"})
# They let through what is above a threshold, and hold back the rest, wholly or mostly.
RECTIFIERS = frozenset(
    {
        *("relu", "relu6", "hardtanh", "threshold", "clamp", "clamp_min"),
        *("leaky_relu", "prelu", "rrelu"),
    }
)
DROPOUTS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"}
)
# The same at every place, from what is at that place.
POINTWISE = (
    RECTIFIERS
    | DROPOUTS
    | {
        *("add", "sub", "mul", "div", "neg", "pow", "exp", "sqrt", "rsqrt", "abs", "maximum"),
        *("minimum", "where", "square", "sigmoid", "tanh", "silu", "gelu", "mish", "elu", "selu"),
        *("celu", "softplus", "hardswish", "hardsigmoid", "logsigmoid", "batch_norm"),
        *("local_response_norm", "channel_shuffle"),
        *("clone", "contiguous", "to", "type", "float", "half", "bfloat16", "double", "detach"),
    }
)
# They take the numbers of a tensor in their order to another shape.
RESHAPES = frozenset({"view", "reshape", "flatten", "unflatten", "reshape_as", "view_as"})
