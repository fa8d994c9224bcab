"""Which measures of quality can judge which methods."""

from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.quality_pb2 import QualityMeasure

# They look at the picture, or at the network alone, whatever the class.
WITHOUT_TARGET = frozenset({"deconvnet", "activations", "filters"})
WITHOUT_MAP = frozenset({"activations", "filters"})
# Their numbers are parts of a score.
ADDITIVE = frozenset({"input_x_gradient", "integrated_gradients"})
SIGNED = (methods.CHANNEL_REDUCTION_SUM_SIGNED, methods.CHANNEL_REDUCTION_NONE)

OF_A_CLASS = frozenset({"deletion", "insertion", "completeness"})
OF_THE_PICTURE_ALONE = frozenset({"pointing_game", "region_overlap"})


def misfit(measure: QualityMeasure, method: ExplanationMethod) -> str:
    """Why a measure cannot judge a method, as the end of a sentence; empty where it can.

    Both have every default filled in.
    """
    name, judged = measure.WhichOneof("measure"), method.WhichOneof("method")
    if judged in WITHOUT_MAP:
        return "it gives no map"
    if name in OF_A_CLASS and judged in WITHOUT_TARGET:
        return "its map is of no class, whose probability or score could be followed"
    if judged == "dense_map" and name not in OF_THE_PICTURE_ALONE:
        return "its map does not lie on the network's input, but on a larger picture"
    if name == "completeness":
        return _not_additive(method)
    return ""


def _not_additive(method: ExplanationMethod) -> str:
    name = method.WhichOneof("method")
    assert name
    if name not in ADDITIVE:
        return "its numbers are no parts of a score that could be added up"
    if getattr(method, name).reduction not in SIGNED:
        return (
            "it gives absolute values, which do not add up; ask for CHANNEL_REDUCTION_SUM_SIGNED "
            "or CHANNEL_REDUCTION_NONE"
        )
    return ""
