"""What torchvision offers, against figures that were written down elsewhere."""

import subprocess
import sys

import pytest
from torchvision import models

from convlens.v1.network_pb2 import PretrainedWeights
from convlens.workers.builders.pretrained import list_pretrained

# The lectures' table, one row for each family: top-1 and top-5 in %, and parameters, as they stand
# in torchvision's documentation.
LECTURES = [
    ("alexnet", "IMAGENET1K_V1", 56.522, 79.066, "61.1M"),
    ("convnext_base", "IMAGENET1K_V1", 84.062, 96.870, "88.6M"),
    ("densenet121", "IMAGENET1K_V1", 74.434, 91.972, "8.0M"),
    ("efficientnet_b1", "IMAGENET1K_V2", 79.838, 94.934, "7.8M"),
    ("efficientnet_v2_s", "IMAGENET1K_V1", 84.228, 96.878, "21.5M"),
    ("googlenet", "IMAGENET1K_V1", 69.778, 89.530, "6.6M"),
    ("inception_v3", "IMAGENET1K_V1", 77.294, 93.450, "27.2M"),
    ("maxvit_t", "IMAGENET1K_V1", 83.700, 96.722, "30.9M"),
    ("mnasnet1_0", "IMAGENET1K_V1", 73.456, 91.510, "4.4M"),
    ("mobilenet_v2", "IMAGENET1K_V2", 72.154, 90.822, "3.5M"),
    ("mobilenet_v3_large", "IMAGENET1K_V2", 75.274, 92.566, "5.5M"),
    ("regnet_y_32gf", "IMAGENET1K_SWAG_E2E_V1", 86.838, 98.362, "145.0M"),
    ("resnet50", "IMAGENET1K_V2", 80.858, 95.434, "25.6M"),
    ("resnet152", "IMAGENET1K_V2", 82.284, 96.002, "60.2M"),
    ("resnext101_64x4d", "IMAGENET1K_V1", 83.246, 96.454, "83.5M"),
    ("shufflenet_v2_x2_0", "IMAGENET1K_V1", 76.230, 93.006, "7.4M"),
    ("squeezenet1_1", "IMAGENET1K_V1", 58.178, 80.624, "1.2M"),
    ("swin_b", "IMAGENET1K_V1", 83.582, 96.640, "87.8M"),
    ("swin_v2_b", "IMAGENET1K_V1", 84.112, 96.864, "87.9M"),
    ("vgg16_bn", "IMAGENET1K_V1", 73.360, 91.516, "138.4M"),
    ("vit_h_14", "IMAGENET1K_SWAG_E2E_V1", 88.552, 98.694, "633.5M"),
    ("wide_resnet50_2", "IMAGENET1K_V2", 81.602, 95.758, "68.9M"),
]


@pytest.fixture(scope="module")
def offered() -> dict[tuple[str, str], PretrainedWeights]:
    return {(entry.network, entry.weights): entry for entry in list_pretrained("").weights}


@pytest.mark.parametrize(("network", "weights", "top1", "top5", "parameters"), LECTURES)
def test_the_table_of_the_lectures(
    offered, network: str, weights: str, top1: float, top5: float, parameters: str
) -> None:
    entry = offered[network, weights]
    assert entry.accuracy.dataset == "ImageNet-1K validation"
    assert round(entry.accuracy.top1 * 100, 6) == top1
    assert round(entry.accuracy.top5 * 100, 6) == top5
    assert f"{entry.parameters / 1e6:.1f}M" == parameters
    assert entry.recipe.startswith("https://github.com/")


def test_everything_else_of_one_of_them(offered) -> None:
    entry = offered["vit_h_14", "IMAGENET1K_SWAG_E2E_V1"]
    assert (entry.is_default, entry.classes) == (True, 1000)
    assert (entry.input.height, entry.input.width, entry.input.resize) == (518, 518, 518)
    assert entry.multiply_adds == 1_016_717_000_000
    # 633 470 440 numbers of four bytes, and little more.
    assert 0 < entry.file_bytes - 4 * entry.parameters < 1e6
    assert entry.recipe == "https://github.com/facebookresearch/SWAG"
    assert entry.url.endswith("/vit_h_14_swag-80465313.pth")


def test_every_weight_of_every_classification_network_is_there(offered) -> None:
    networks = models.list_models(module=models)
    assert {network for network, _ in offered} == set(networks)
    assert len(offered) == sum(len(models.get_model_weights(name)) for name in networks)
    defaults = [network for (network, _), entry in offered.items() if entry.is_default]
    assert sorted(defaults) == networks


def test_features_without_a_classifier_have_no_figures(offered) -> None:
    entry = offered["vgg16", "IMAGENET1K_FEATURES"]
    assert entry.classes == 0
    assert not entry.accuracy.HasField("top1") and not entry.accuracy.HasField("top5")


def test_the_name_filters() -> None:
    found = [entry.network for entry in list_pretrained("swin_v2").weights]
    assert found == ["swin_v2_b", "swin_v2_s", "swin_v2_t"]
    assert not list_pretrained("nothing").weights
    assert list_pretrained("nothing").torchvision_version


def test_a_worker_starts_without_torchvision() -> None:
    script = (
        "import sys, convlens.workers.worker, convlens.workers.catalog;"
        "from convlens.workers.config import NetworkEntry;"
        "convlens.workers.catalog.load_network(NetworkEntry(name='shapes'), 'cpu');"
        "assert 'torchvision' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
