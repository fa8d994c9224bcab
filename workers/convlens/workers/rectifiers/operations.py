"""What torch's operations do to a gradient, by their names below Python (relu for aten::relu_)."""

from torch._ops import OpOverload


def name_of(operation: OpOverload) -> str:
    """The operation's name, the same in place or not and for every overload."""
    return operation.overloadpacket.__name__.rstrip("_")


# Tensors as others are, with none of their values.
BLANKS = frozenset(
    {
        *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
        *("new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full"),
    }
)
# Copies, as they are, larger, or on another scale: a gate stays one in them.
COPIES = frozenset(
    {
        *("div", "clone", "_to_copy", "repeat", "expand_copy", "view_copy"),
        *("upsample_nearest1d", "upsample_nearest2d", "_upsample_nearest_exact2d"),
        *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"),
        *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    }
)
_VIEWS = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "_reshape_alias", "as_strided", "alias", "detach"),
        *("permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "unfold", "diagonal"),
        *(
            "slice",
            "select",
            "narrow",
            "split",
            "split_with_sizes",
            "chunk",
            "unbind",
            "lift_fresh",
        ),
    }
)
_MOVES = frozenset(
    {
        *("cat", "stack", "flip", "roll", "index", "index_select", "gather", "where", "copy"),
        *(
            "masked_fill",
            "fill",
            "zero",
            "constant_pad_nd",
            "reflection_pad1d",
            "reflection_pad2d",
            "replication_pad2d",
        ),
        *("im2col", "col2im", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle"),
        *("native_channel_shuffle", "slice_scatter", "select_scatter", "tril", "triu"),
    }
)
_SUMS = frozenset(
    {
        *("add", "sub", "rsub", "neg", "sum", "mean", "cumsum"),
        *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
        *("adaptive_avg_pool1d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d"),
        *("adaptive_avg_pool2d", "adaptive_avg_pool3d"),
        *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"),
        *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        "_batch_norm_no_update",
    }
)
# The gradient goes back through them as through the transposed matrix, under every rule.
LINEAR = COPIES | _VIEWS | _MOVES | _SUMS
# Likewise while not more than one of these factors depends on the picture.
FACTORS = {
    **dict.fromkeys(("mul", "mm", "bmm", "mv", "dot", "linear", "convolution"), (0, 1)),
    **dict.fromkeys(("addmm", "baddbmm", "addmv", "addbmm", "addcmul"), (1, 2)),
}
# The gradient goes to the switch alone: each input is in one window, or gets a sum. Of amax, ties
# share it, which only numbers that are equal to the last bit are.
SWITCHES = frozenset({"amax", "max"})
# Likewise, but windows may overlap.
POOLS = frozenset(
    {
        *("max_pool2d_with_indices", "max_pool3d_with_indices"),
        *("adaptive_max_pool2d", "adaptive_max_pool3d"),
    }
)
# What they give says how much of something else passes.
GATES = {"sigmoid": "sigmoid gates", "hardsigmoid": "hard sigmoid gates"}
# They divide by what they find in the picture itself.
NORMS = {
    "native_layer_norm": "layer normalisations",
    "native_group_norm": "group normalisations",
}
# Likewise, but made of several operations: torch functions by their plain names.
NORM_FUNCTIONS = {
    "local_response_norm": "local response normalisations",
    "instance_norm": "instance normalisations",
}
