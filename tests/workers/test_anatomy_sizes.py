"""Every classification network of torchvision: sizes of maps, parameters, multiply-adds."""

import pytest
from torchvision import models

from convlens.workers.anatomy import describe, trace
from convlens.workers.anatomy.functions import ADAPTIVE_POOLS
from convlens.workers.anatomy.windows import Window, map_size, windows

from .networks import build

DEFAULT = frozenset(
    {
        *("alexnet", "vgg11", "vgg16_bn", "squeezenet1_0", "googlenet", "inception_v3"),
        *("resnet18", "resnet50", "wide_resnet50_2", "densenet121", "mobilenet_v2", "mnasnet0_5"),
        *("mobilenet_v3_small", "shufflenet_v2_x0_5", "efficientnet_b0", "efficientnet_v2_s"),
        *("regnet_y_400mf", "regnet_x_400mf", "convnext_tiny", "vit_b_16", "swin_t", "maxvit_t"),
    }
)
NETWORKS = models.list_models(module=models)
# Their auxiliary classifiers do not run; torchvision counts them for one of the two.
LEARNED = {"googlenet": 13_004_888}
RUNNING = {"inception_v3": 23_834_568}


def test_there_are_as_many_networks_as_ever():
    assert len(NETWORKS) >= 80


# By default the networks that differ; the rest of each family repeats its smallest with more.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.slow) for name in NETWORKS],
)
def test_figures_are_those_of_formulas_and_of_torchvision(name):
    [weights, *_] = models.get_model_weights(name)
    size = weights.transforms.keywords["crop_size"]
    module = build(name, **({"image_size": size} if name.startswith("vit") else {})).to("meta")
    traced = trace(module, (3, size, size))
    counted = 0
    for call in traced.calls:
        found = windows(call)
        if found is None:
            assert call.function not in ("conv2d", "max_pool2d", "avg_pool2d")
            continue
        sizes = tuple(w.output(n) for w, n in zip(found, map_size(call), strict=True))
        assert sizes == call.outputs[0].shape[-2:], (call.function, call.args, call.kwargs)
        counted += call.function not in ADAPTIVE_POOLS
    anatomy = describe(traced, module, [False] * len(traced.calls))
    assert counted >= 1
    assert anatomy.parameters == LEARNED.get(name, weights.meta["num_params"])
    running = sum(layer.parameters for layer in anatomy.layers)
    assert running == RUNNING.get(name, weights.meta["num_params"])
    # torchvision's GFLOPS are multiply-adds, in thousand millions and rounded to three digits.
    assert anatomy.multiply_adds / 1e9 == pytest.approx(weights.meta["_ops"], abs=5.1e-4)


@pytest.mark.parametrize(
    ("window", "size", "output"),
    [
        # The lectures' examples: 7 wide, 3 × 3; and AlexNet's 227.
        (Window(3, 1), 7, 5),
        (Window(3, 2), 7, 3),
        (Window(3, 1, 1, 1), 7, 7),
        (Window(11, 4), 227, 55),
        # A dilated one is as long as its ends are apart.
        (Window(3, 1, 2, 2, dilation=2), 9, 9),
        # Rounded up, but never beginning behind the padding.
        (Window(3, 2, ceil=True), 112, 56),
        (Window(3, 2), 112, 55),
        (Window(2, 2, 1, 1, ceil=True), 3, 2),
    ],
)
def test_the_formula(window, size, output):
    assert window.output(size) == output
