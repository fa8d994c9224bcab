"""Which planner belongs to which method message."""

from collections.abc import Mapping

from convlens.contract.cost import target_free
from convlens.contract.rules import title_of
from convlens.v1 import network_pb2
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.workers.explain.plans.covered import plan_dense_map, plan_occlusion
from convlens.workers.explain.plans.gradients import (
    plan_input_x_gradient,
    plan_integrated_gradients,
    plan_saliency,
    plan_smooth_grad,
)
from convlens.workers.explain.plans.layers import (
    plan_activations,
    plan_filters,
    plan_grad_cam,
)
from convlens.workers.explain.plans.plan import Plan, Planner, Wanted
from convlens.workers.explain.plans.rectified import (
    plan_deconvnet,
    plan_guided_backprop,
    plan_guided_grad_cam,
)
from convlens.workers.explain.subject import Subject

WITHOUT_GRADIENTS = frozenset({"occlusion", "activations", "filters", "dense_map"})
PLANNERS: Mapping[str, Planner] = {
    "saliency": plan_saliency,
    "input_x_gradient": plan_input_x_gradient,
    "smooth_grad": plan_smooth_grad,
    "integrated_gradients": plan_integrated_gradients,
    "guided_backprop": plan_guided_backprop,
    "deconvnet": plan_deconvnet,
    "occlusion": plan_occlusion,
    "grad_cam": plan_grad_cam,
    "guided_grad_cam": plan_guided_grad_cam,
    "activations": plan_activations,
    "filters": plan_filters,
    "dense_map": plan_dense_map,
}


def plan(subject: Subject, method: ExplanationMethod, index: int, seed: int, dtype: int) -> Plan:
    """Makes the method at a position of a request ready; it has every default filled in.

    Raises Failure: INVALID_REQUEST for parameters that do not suit the network, and what says that
    the method or its layer does not apply.
    """
    name = method.WhichOneof("method")
    assert name
    if subject.network.facts.kind == network_pb2.NETWORK_KIND_LINEAR:
        detail = "it takes plain numbers, and maps are of pictures"
        raise subject.unfit(title_of(getattr(method, name)), detail)
    if name not in WITHOUT_GRADIENTS:
        subject.check_gradients(title_of(getattr(method, name)), "occlusion")
    wanted = Wanted(getattr(method, name), f"methods[{index}].{name}", seed, dtype)
    planned = PLANNERS[name](subject, wanted)
    return Plan(method, title_of(wanted.p), target_free(method), planned)
