"""Codes of layers, against torchvision's own feature extractor."""

import copy
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job
from convlens.v1 import feature_pb2, image_pb2, network_pb2, tensor_pb2
from convlens.v1.image_pb2 import Image
from convlens.workers.anatomy import Unsteady
from convlens.workers.features import FeatureJob, extract, extractor
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.selection import Layers

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Early, middle and late layers; functional ones and whole blocks among them.
SMALL = {
    "alexnet": (96, ["features.0", "features.4", "features.10", "flatten", "classifier.4"]),
    "googlenet": (96, ["conv1.relu", "maxpool1", "inception3a.cat", "inception5b", "flatten"]),
    "resnet18": (64, ["maxpool", "layer1.0.add", "layer3.1.conv2", "layer4", "avgpool", "fc"]),
}
FULL = {
    "alexnet": (224, ["features.2", "features.12", "avgpool", "classifier.1"]),
    "vgg16": (224, ["features.4", "features.16", "features.30", "classifier.3"]),
    "googlenet": (224, ["conv3.relu", "inception4c.cat", "inception5b.cat"]),
    "inception_v3": (299, ["maxpool1", "Mixed_6a.cat", "Mixed_7c.cat", "avgpool"]),
    "resnet18": (224, ["maxpool", "layer2.1.conv2", "layer4.1.add", "flatten"]),
    "densenet121": (224, ["features.pool0", "features.transition2.pool", "flatten"]),
    "mobilenet_v3_small": (224, ["features.4", "features.12", "classifier.0"]),
    "efficientnet_b0": (224, ["features.2", "features.8", "flatten"]),
    "convnext_tiny": (224, ["features.1", "features.7", "classifier.0"]),
    "regnet_y_400mf": (224, ["trunk_output.block2", "avgpool"]),
    "shufflenet_v2_x1_0": (224, ["stage2", "conv5", "mean"]),
    "vit_b_16": (224, ["encoder.layers.encoder_layer_5.add_1", "encoder.ln", "heads.head"]),
}


def served(name: str, size: int) -> ServedNetwork:
    torch.manual_seed(0)
    extra: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        extra = {"init_weights": False, "aux_logits": False}
    body = animated(models.get_model(name, weights=None, **extra), size)
    facts = network_pb2.Network(
        name=name,
        version="1",
        kind=network_pb2.NETWORK_KIND_IMAGE,
        labels=[str(index) for index in range(1000)],
        input=network_pb2.InputGeometry(
            height=size,
            width=size,
            channels=3,
            resize=size,
            interpolation=image_pb2.INTERPOLATION_BILINEAR,
            mean=MEAN,
            std=STD,
        ),
    )
    network = ServedNetwork(body, facts, torch.device("cpu"))
    network.dissect()
    return network


def animated(body: nn.Module, size: int) -> nn.Module:
    """The network with statistics of its own numbers: untrained, deep ones go down to nothing."""
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        elif isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    with torch.inference_mode():
        body.train()(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2)))
    return body.eval()


def pictures(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def codes(network: ServedNetwork, pixels: Tensor, layers: Sequence[Any]) -> list[Tensor]:
    """The values of each layer, [n, ...]."""
    known = Layers(network)
    wanted = [
        each
        if isinstance(each, feature_pb2.LayerSelection)
        else feature_pb2.LayerSelection(layer=each)
        for each in layers
    ]
    rows = list(extract(network, [known.select(each) for each in wanted], pixels))
    return [torch.stack([row[index].values for row in rows]) for index in range(len(layers))]


def check_against_torchvision(name: str, size: int, layers: list[str]) -> None:
    network, pixels = served(name, size), pictures(2, size)
    mine = codes(network, pixels, layers)
    normalized = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    body = copy.deepcopy(network.module.body)
    for module in body.modules():
        if hasattr(module, "inplace"):
            # Or torchvision's extractor gives what the rectifier after a layer made of it.
            module.inplace = False  # pyright: ignore[reportArgumentType]
    theirs: dict[str, Tensor] = create_feature_extractor(body, layers)(
        normalized.to(memory_format=torch.channels_last)
    )
    for layer, values in zip(layers, mine, strict=True):
        largest = theirs[layer].abs().max()
        assert largest > 1e-6, f"{layer} tells nothing"
        assert values.shape == theirs[layer].shape
        difference = (values - theirs[layer]).abs().max() / largest
        assert difference < 1e-5, (layer, difference)


@pytest.mark.parametrize("name", SMALL)
def test_codes_are_those_of_torchvisions_extractor(name: str) -> None:
    check_against_torchvision(name, *SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_codes_are_those_of_torchvisions_extractor_at_full_size(name: str) -> None:
    check_against_torchvision(name, *FULL[name])


@pytest.fixture(scope="module")
def resnet() -> ServedNetwork:
    return served("resnet18", 64)


def selection(layer: str, **options: Any) -> feature_pb2.LayerSelection:
    return feature_pb2.LayerSelection(layer=layer, **options)


def test_poolings_are_what_they_say(resnet: ServedNetwork) -> None:
    pixels = pictures(3, 64)
    layer = "layer2.1.add"
    whole, average, flat = codes(
        resnet,
        pixels,
        [
            selection(layer),
            selection(layer, pooling=feature_pb2.POOLING_AVG),
            selection(layer, pooling=feature_pb2.POOLING_FLATTEN),
        ],
    )
    assert torch.allclose(average, whole.mean(dim=(2, 3)), atol=1e-6)
    assert torch.equal(flat, whole.flatten(1))
    known = Layers(resnet)
    [row, *_] = extract(
        resnet, [known.select(selection(layer, pooling=feature_pb2.POOLING_MAX))], pixels
    )
    assert row[0].positions is not None
    for channel, (vertical, horizontal) in enumerate(row[0].positions.tolist()):
        assert whole[0, channel, vertical, horizontal] == row[0].values[channel]
        assert whole[0, channel].max() == row[0].values[channel]


def test_half_precision_and_length_one(resnet: ServedNetwork) -> None:
    pixels = pictures(2, 64)
    half = tensor_pb2.DATA_TYPE_FLOAT16
    plain, small, unit = codes(
        resnet,
        pixels,
        ["cnn-code", selection("cnn-code", dtype=half), selection("cnn-code", l2_normalize=True)],
    )
    assert plain.shape == (2, 512)
    assert small.dtype == torch.float16
    assert torch.allclose(small.float(), plain, rtol=1e-3, atol=1e-4)
    assert torch.allclose(unit.norm(dim=1), torch.ones(2))
    assert torch.allclose(unit * plain.norm(dim=1, keepdim=True), plain, atol=1e-5)


def test_logits_are_those_of_classify(resnet: ServedNetwork) -> None:
    pixels = pictures(4, 64)
    [logits] = codes(resnet, pixels, ["logits"])
    assert torch.equal(logits, resnet.logits(pixels))


@pytest.mark.parametrize(
    ("name", "size", "code", "width"),
    [("alexnet", 96, "classifier.5", 4096), ("googlenet", 64, "dropout", 1024)],
)
def test_the_cnn_code_is_what_the_classifier_takes(
    name: str, size: int, code: str, width: int
) -> None:
    network = served(name, size)
    chosen = Layers(network).select(selection("cnn-code"))
    assert chosen.name == code
    assert chosen.output.shape == (width,)


def test_the_pass_stops_after_the_deepest_layer(resnet: ServedNetwork) -> None:
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in resnet.module.body.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    codes(resnet, pictures(1, 64), ["conv1", "layer1.1.conv2"])
    for hook in hooks:
        hook.remove()
    assert ran[-1] in ("layer1.1.conv1", "layer1.1.conv2")
    assert not any(name.startswith("layer2") for name in ran)


def refusal(network: ServedNetwork, wanted: feature_pb2.LayerSelection) -> Failure:
    with pytest.raises(Failure) as caught:
        Layers(network).select(wanted)
    return caught.value


def test_an_unknown_layer_is_told_the_nearest(resnet: ServedNetwork) -> None:
    failure = refusal(resnet, selection("layer3.1.conv"))
    assert reason_name(failure.reason) == "LAYER_NOT_FOUND"
    assert "layer3.1.conv1" in str(failure)


def test_a_layer_that_returns_a_tuple_is_refused_with_the_reason() -> None:
    network = served("vit_b_16", 224)
    failure = refusal(network, selection("encoder.layers.encoder_layer_0.self_attention"))
    assert reason_name(failure.reason) == "LAYER_NOT_APPLICABLE"
    assert "returns a tuple" in str(failure)
    failure = refusal(network, selection("encoder.ln", pooling=feature_pb2.POOLING_AVG))
    assert "has no maps to pool" in str(failure)


def test_the_time_of_the_network_is_told_and_a_broken_answer_is_ones_own(
    resnet: ServedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[Any] = []
    images = [Image(tensor=pixels_of()) for _ in range(8)]

    def ticket(layer: str) -> Ticket:
        layers = [feature_pb2.LayerSelection(layer=layer)]
        request = feature_pb2.ExtractFeaturesRequest(images=images, layers=layers)
        now = time.monotonic()
        job = Job(request_id=layer, request=request.SerializeToString())
        return Ticket(job, now, now + 60, lambda: False, replies.append)

    with ThreadPoolExecutor(2) as executor:
        passes = extractor(resnet, executor)
        passes.run([ticket("fc")])
        [good] = replies
        assert good.stages.compute_us * len(images) > 1000
        respond = FeatureJob.response

        def broken(job: FeatureJob, outcomes: Any) -> bytes:
            if job.ticket is first:
                raise ValueError("broken")
            return respond(job, outcomes)

        monkeypatch.setattr(FeatureJob, "response", broken)
        first, second = ticket("fc"), ticket("fc")
        passes.run([first, second])
    assert [reply.WhichOneof("outcome") for reply in replies[1:]] == ["error", "response"]


def pixels_of() -> tensor_pb2.Tensor:
    data = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy().tobytes()
    return tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[64, 64, 3], data=data)


def own(body: nn.Module, size: int = 32) -> ServedNetwork:
    """A network that somebody wrote, with pixels as they are."""
    geometry = network_pb2.InputGeometry(
        height=size, width=size, channels=3, mean=[0, 0, 0], std=[1, 1, 1]
    )
    facts = network_pb2.Network(name="own", version="1", input=geometry)
    network = ServedNetwork(body.eval(), facts, torch.device("cpu"))
    network.dissect()
    return network


class Choosy(nn.Module):
    """Goes another way for bright pictures, through a layer that looks like the next one."""

    def __init__(self, bright: float) -> None:
        super().__init__()
        self.a, self.b, self.bright = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), bright

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > self.bright):
            x = self.a(x)
        return self.b(x).mean((2, 3))


def test_a_network_that_goes_other_ways_for_other_pictures_has_no_codes() -> None:
    with pytest.raises(Failure, match="makes other calls for other pictures"):
        Layers(own(Choosy(0.6))).select(feature_pb2.LayerSelection(layer="b"))


def test_another_way_that_nobody_saw_before_is_found_out() -> None:
    class Late(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            # Brighter than white, which no picture is.
            return (x + 1 if bool(x.mean() > 1.5) else x * 2).relu().mean((2, 3))

    network = own(Late())
    selected = [Layers(network).select(feature_pb2.LayerSelection(layer="relu"))]
    assert len(list(extract(network, selected, torch.rand(1, 3, 32, 32)))) == 1
    with pytest.raises(Unsteady, match="is add; when the network was traced, it was mul"):
        list(extract(network, selected, torch.full((1, 3, 32, 32), 2.0)))


def test_maps_of_transposed_convolutions_and_what_is_not_known_to_be_maps() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 4, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.up(x)
            return torch.einsum("nchw,nchv->ncwv", x, x).mean((2, 3))

    network = own(Up())
    average = feature_pb2.POOLING_AVG
    [code] = codes(network, torch.rand(1, 3, 32, 32), [pooled("up", average)])
    assert code.shape == (1, 4)
    with pytest.raises(Failure, match=r"its output \[4, 65, 65\] is not known to be maps"):
        Layers(network).select(pooled("einsum", average))


def pooled(layer: str, pooling: Any) -> feature_pb2.LayerSelection:
    return feature_pb2.LayerSelection(layer=layer, pooling=pooling)
