"""Measures in a request: what each answers, what they cost, and what time or a fault leaves."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from convlens.contract import Failure
from convlens.contract.errors import reason_name
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1 import explanation_methods_pb2 as methods
from convlens.v1 import explanation_pb2 as pb
from convlens.v1 import image_pb2, network_pb2, quality_pb2, tensor_pb2
from convlens.v1.explanation_methods_pb2 import ExplanationMethod
from convlens.v1.geometry_pb2 import Box
from convlens.v1.image_pb2 import Image
from convlens.v1.quality_pb2 import (
    Completeness,
    Deletion,
    Insertion,
    MaxSensitivity,
    ModelRandomization,
    PointingGame,
    QualityMeasure,
    RegionOverlap,
    TrueRegion,
)
from convlens.v1.target_pb2 import Target
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry, PoolConfig
from convlens.workers.explain import Subject
from convlens.workers.explain.judging import Judging
from convlens.workers.jobs import Ticket
from convlens.workers.network import ServedNetwork
from convlens.workers.worker import AnalysisWorker

HERE = TrueRegion(box=Box(left=0, top=0, right=256, bottom=256))
SMOOTH = methods.SmoothGrad(samples=5)
OCCLUSION = methods.Occlusion(window=32, stride=32)
SMALL: dict[str, Message] = {
    "deletion": Deletion(steps=6),
    "insertion": Insertion(steps=9),
    "completeness": Completeness(),
    "max_sensitivity": MaxSensitivity(samples=3),
    "model_randomization": ModelRandomization(),
    "pointing_game": PointingGame(),
    "region_overlap": RegionOverlap(),
}
METHODS: dict[str, Message] = {
    "saliency": methods.Saliency(),
    "input_x_gradient": methods.InputXGradient(),
    "smooth_grad": SMOOTH,
    "integrated_gradients": methods.IntegratedGradients(steps=4, max_steps=4),
    "guided_backprop": methods.GuidedBackprop(),
    "deconvnet": methods.Deconvnet(layer="features.5", strongest=2),
    "occlusion": OCCLUSION,
    "grad_cam": methods.GradCam(),
    "guided_grad_cam": methods.GuidedGradCam(),
    "activations": methods.Activations(layer="features.5"),
    "filters": methods.Filters(layer="features.0"),
    "dense_map": methods.DenseMap(),
}


@pytest.fixture(scope="module")
def network() -> ServedNetwork:
    return load_network(NetworkEntry(name="shapes"), "cpu")


@pytest.fixture(scope="module")
def worker(network: ServedNetwork) -> Iterator[AnalysisWorker]:
    made = AnalysisWorker(network, PoolConfig())
    yield made
    made.close()


def within(kind: Any, parameters: Message) -> Any:
    """A message in the oneof that holds it."""
    [field] = [
        field.name
        for field in kind.DESCRIPTOR.fields
        if field.message_type.full_name == parameters.DESCRIPTOR.full_name
    ]
    return kind(**{field: parameters})


def request(
    picture: Path, wanted: Sequence[Message], measures: Sequence[Message], **fields: Any
) -> pb.ExplainRequest:
    return pb.ExplainRequest(
        images=[Image(encoded=picture.read_bytes())],
        methods=[within(ExplanationMethod, each) for each in wanted],
        measures=[within(QualityMeasure, each) for each in measures],
        **fields,
    )


def replies(
    worker: AnalysisWorker, body: Message, method: str = "Explain", seconds: float = 60
) -> list[Reply]:
    """All that a worker answers to a request."""
    found: list[Reply] = []
    done = threading.Event()

    def reply(one: Reply) -> None:
        found.append(one)
        if not one.more:
            done.set()

    now = time.monotonic()
    job = Job(
        request_id="test", method=f"ExplanationService/{method}", request=body.SerializeToString()
    )
    worker.run([Ticket(job, now, now + seconds, lambda: False, reply)])
    assert done.wait(60)
    return found


def ask(worker: AnalysisWorker, asked: pb.ExplainRequest, seconds: float = 60) -> Any:
    [reply] = replies(worker, asked, seconds=seconds)
    if failure := Failure.from_status(reply.error):
        raise failure
    return pb.ExplainResponse.FromString(reply.response)


def attributions(response: pb.ExplainResponse) -> list[pb.Attribution]:
    found = [each for result in response.results for each in result.explanation.attributions]
    for each in found:
        assert each.HasField("attribution"), each.error.message
    return [each.attribution for each in found]


def scores(worker: AnalysisWorker, asked: pb.ExplainRequest) -> list[Any]:
    """Of the only map: a value, or a Failure, for each measure."""
    [found] = attributions(ask(worker, asked))
    return [Failure.from_status(each.error) or each.value.score for each in found.scores]


def told(failure: Any) -> tuple[str, str]:
    assert isinstance(failure, Failure), failure
    return reason_name(failure.reason), str(failure)


def test_every_map_has_one_score_for_each_measure_in_order(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    wanted: list[Message] = [
        methods.Saliency(),
        methods.InputXGradient(reduction=methods.CHANNEL_REDUCTION_NONE),
    ]
    targets = [Target(rank=1), Target(rank=3)]
    asked = request(pictures[0], wanted, list(SMALL.values()), targets=targets, true_regions=[HERE])
    found = attributions(ask(worker, asked))
    assert len(found) == 4
    for number, each in enumerate(found):
        names = [score.measure.WhichOneof("measure") for score in each.scores]
        assert names == list(SMALL)
        errors = [name for name, s in zip(names, each.scores, strict=True) if s.HasField("error")]
        assert errors == (["completeness"] if number < 2 else [])
        deletion, insertion = each.scores[0], each.scores[1]
        assert deletion.measure.deletion.fill == image_pb2.FILL_MEAN
        assert insertion.measure.insertion.blur_sigma == 5
        assert len(deletion.value.curve) == 7 and len(insertion.value.curve) == 10
        probability = each.target.probability
        assert deletion.value.curve[0] == pytest.approx(probability, rel=1e-4)
        assert insertion.value.curve[-1] == pytest.approx(probability, rel=1e-4)
        assert 0 < each.scores[3].value.score < 10
        assert -0.9 < each.scores[4].value.score < 0.9
        assert each.scores[5].value.score == 1


def slow_deletion(network: ServedNetwork, x: Any, map_: Any, target: int, steps: int) -> float:
    """The area, picture by picture, as it was served: the mean colour covers what was strongest."""
    mean = torch.tensor(network.facts.input.mean)[:, None]
    order = np.argsort(-map_.flatten(), kind="stable")
    areas = 0.0
    for step in range(steps + 1):
        pixels = torch.tensor(x).flatten(1)
        pixels[:, order[: step * len(order) // steps].copy()] = mean
        chance = network.logits(pixels.view(1, *x.shape))[0].double().softmax(0)[target]
        areas += float(chance) / steps * (0.5 if step in (0, steps) else 1)
    return areas


def test_deletion_as_served(
    worker: AnalysisWorker, network: ServedNetwork, pictures: list[Path]
) -> None:
    generator = np.random.default_rng(0)
    x = generator.random((128, 128, 3), np.float32)
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=x.shape, data=x.tobytes())
    asked = request(pictures[0], [methods.Saliency()], [Deletion(steps=12)])
    asked.images[0].CopyFrom(Image(tensor=tensor))
    [found] = attributions(ask(worker, asked))
    map_ = np.frombuffer(found.map.data, "<f4").reshape(found.map.shape)
    expected = slow_deletion(network, x.transpose(2, 0, 1), map_, found.target.class_index, 12)
    assert found.scores[0].value.score == pytest.approx(expected, rel=1e-4)
    assert max(found.scores[0].value.curve) > min(found.scores[0].value.curve) + 0.01


def test_completeness_is_what_integrated_gradients_says_itself(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    wanted = [methods.IntegratedGradients(), methods.InputXGradient()]
    response = ask(worker, request(pictures[0], wanted, [Completeness()]))
    integrated, product = attributions(response)
    ends = integrated.integrated_gradients
    for each in (integrated, product):
        map_ = np.frombuffer(each.map.data, "<f4").astype(float)
        missed = map_.sum() - (ends.score - ends.baseline_score)
        assert each.scores[0].value.score == pytest.approx(missed, rel=1e-3)
    error = integrated.error_estimate.absolute
    assert abs(integrated.scores[0].value.score) == pytest.approx(error, rel=1e-3)
    assert error < abs(product.scores[0].value.score)


def test_an_error_is_a_share_of_something_or_of_nothing(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    itself = Image(encoded=pictures[0].read_bytes())
    wanted = [methods.IntegratedGradients(baseline_image=itself), methods.IntegratedGradients()]
    nowhere, somewhere = attributions(ask(worker, request(pictures[0], wanted, [])))
    assert nowhere.error_estimate.absolute == 0
    assert not nowhere.error_estimate.HasField("relative")
    assert 0 < somewhere.error_estimate.relative < 1


MISFITS = {
    ("activations", "max_sensitivity"): "it gives no map",
    ("filters", "pointing_game"): "it gives no map",
    ("deconvnet", "deletion"): "its map is of no class",
    ("deconvnet", "completeness"): "its map is of no class",
    ("dense_map", "insertion"): "its map does not lie on the network's input",
    ("dense_map", "model_randomization"): "its map does not lie on the network's input",
    ("saliency", "completeness"): "its numbers are no parts of a score",
    ("grad_cam", "completeness"): "its numbers are no parts of a score",
}


def more(cost: Any, than: Any) -> tuple[int, int]:
    """Passes forward and backward."""
    forward, backward = than.forward_passes, than.backward_passes
    return cost.forward_passes - forward, cost.backward_passes - backward


@pytest.mark.parametrize("method", METHODS)
def test_what_is_counted_is_what_is_spent(
    worker: AnalysisWorker, pictures: list[Path], method: str
) -> None:
    """For every measure of every method, those that do not fit among them.

    What the method itself asks for may be known from the first pass of the picture.
    """
    plain = ask(worker, request(pictures[0], [METHODS[method]], []))
    for name, measure in SMALL.items():
        asked = request(pictures[0], [METHODS[method]], [measure], true_regions=[HERE])
        response = ask(worker, asked)
        spent = more(response.receipt.cost, plain.receipt.cost)
        counted = more(response.estimated_cost, plain.estimated_cost)
        # Projections of several maps share the forward pass.
        assert spent[0] <= counted[0] if method == "deconvnet" else spent[0] == counted[0], name
        assert spent[1] == counted[1], name
        [found] = attributions(response)
        [score] = found.scores
        if words := MISFITS.get((method, name)):
            reason, sentence = told(Failure.from_status(score.error))
            assert reason == "MEASURE_NOT_APPLICABLE" and words in sentence
        elif (method, name) not in MISFITS and score.HasField("value"):
            assert math.isfinite(score.value.score)


def test_absolute_values_do_not_add_up(worker: AnalysisWorker, pictures: list[Path]) -> None:
    wanted = methods.InputXGradient(reduction=methods.CHANNEL_REDUCTION_MAX_ABS)
    [found] = scores(worker, request(pictures[0], [wanted], [Completeness()]))
    assert told(found) == (
        "MEASURE_NOT_APPLICABLE",
        "Completeness cannot judge Input x Gradient: it gives absolute values, which do not add "
        "up; ask for CHANNEL_REDUCTION_SUM_SIGNED or CHANNEL_REDUCTION_NONE.",
    )


def test_weights_are_drawn_anew_from_the_layer_that_was_named(
    worker: AnalysisWorker, network: ServedNetwork, pictures: list[Path]
) -> None:
    layers = ["", "features.0", "features.16", "classifier.5", "logits", "cascade", "features"]
    measures: list[Message] = [ModelRandomization(layer=layer) for layer in layers]
    found = scores(worker, request(pictures[0], [methods.Saliency()], measures))
    assert told(found[5]) == (
        "LAYER_NOT_FOUND",
        "Network shapes@1 has no layer 'cascade'; "
        f"there are: {', '.join(list(network.trace.nodes)[:10])} … and 19 more.",
    )
    whole, first, late, last, alias, _, container = found
    assert whole == first == container
    assert last == alias
    assert len({whole, late, last}) == 3
    assert max(whole, late, last) < 0.95
    seeds = [
        scores(worker, request(pictures[0], [methods.Saliency()], measures[:1], seed=seed))[0]
        for seed in (0, 0, 1)
    ]
    assert seeds[0] == seeds[1] == whole != seeds[2]


class Own(nn.Module):
    """Layers without weights behind those that have some, and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(4, 3)
        self.last = nn.Hardtanh()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.pool(self.conv(x))
        return self.last(self.head(maps.mean((2, 3)))) * self.get_buffer("scale")


def subject_of(body: nn.Module) -> Subject:
    facts = network_pb2.Network(name="own", version="1", labels="abc")
    facts.input.CopyFrom(
        network_pb2.InputGeometry(
            channels=3, height=16, width=16, mean=[0.5] * 3, std=[0.5] * 3, resize=16
        )
    )
    network = ServedNetwork(body, facts, torch.device("cpu"))
    network.dissect()
    return Subject(network)


def refused(subject: Subject, layer: str) -> str:
    """Why no weights are drawn anew from a layer upward; "" where they are."""
    measure = within(QualityMeasure, ModelRandomization(layer=layer))
    judging = Judging(subject, pb.ExplainRequest(measures=[measure]))
    [variant] = judging._variants.values()
    return str(variant) if isinstance(variant, Failure) else ""


def test_layers_with_nothing_to_draw_say_so() -> None:
    subject = subject_of(Own())
    assert refused(subject, "pool") == "", "it has no weights, and those after it have"
    assert refused(subject, "last") == (
        "Layer 'last' of own@1 cannot be used so: neither it nor a layer after it has weights."
    )
    bare = subject_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    assert "own@1: it has no weights to draw anew" in refused(bare, "")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_networks_that_cannot_be_copied_or_followed_say_so() -> None:
    own = Own()
    subject = subject_of(own)
    object.__setattr__(own, "lock", threading.Lock())
    assert "a copy of it cannot be made" in refused(subject, "")

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.jit.script(nn.Conv2d(3, 4, 3))
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.first(x).mean((2, 3)))

    scripted = subject_of(Half())
    assert "the network has scripted layers" in refused(scripted, "head")
    assert refused(scripted, "") == ""


def test_every_pixel_strong_alike_leaves_no_ranks(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    black = np.zeros((128, 128, 3), np.float32)
    tensor = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=black.shape, data=black.tobytes()
    )
    measures: list[Message] = [MaxSensitivity(), ModelRandomization(), Deletion(steps=4)]
    asked = request(pictures[0], [methods.InputXGradient()], measures)
    asked.images[0].CopyFrom(Image(tensor=tensor))
    sensitivity, randomization, deletion = scores(worker, asked)
    assert "its map is zero everywhere" in told(sensitivity)[1]
    assert "its map is the same everywhere" in told(randomization)[1]
    assert 0 < deletion < 1


def test_true_regions_are_looked_at(worker: AnalysisWorker, pictures: list[Path]) -> None:
    mask = np.zeros((256, 256), np.uint8)
    mask[:2, :2] = 1
    corner = tensor_pb2.Tensor(
        dtype=tensor_pb2.DATA_TYPE_UINT8, shape=mask.shape, data=mask.tobytes()
    )
    measures: list[Message] = [PointingGame(), RegionOverlap()]
    localization = quality_pb2.Localization(
        method=quality_pb2.LOCALIZATION_METHOD_THRESHOLD, largest_component=False
    )

    def found(region: TrueRegion, **fields: Any) -> list[Any]:
        return scores(
            worker,
            request(pictures[0], [methods.Saliency()], measures, true_regions=[region], **fields),
        )

    everywhere, nowhere = found(HERE), found(TrueRegion(mask=corner))
    assert everywhere[0] == 1 and 0 < everywhere[1] <= 1
    assert nowhere[0] == 0 and 0 <= nowhere[1] < 0.01
    asked = request(
        pictures[0],
        [methods.Saliency()],
        measures,
        true_regions=[HERE],
        localization=localization,
    )
    [made] = attributions(ask(worker, asked))
    box = made.region.box
    area = (box.right - box.left) * (box.bottom - box.top)
    assert made.scores[1].value.score == pytest.approx(area / 256**2) != everywhere[1]
    assert told(found(TrueRegion())[0]) == (
        "INVALID_REQUEST",
        "The request is not valid: true_regions[0] must be a box or a mask: Pointing game compares "
        "the maps with it.",
    )
    without = scores(worker, request(pictures[0], [methods.Saliency()], measures))
    assert "true_regions must have one entry for each image" in told(without[0])[1]
    assert "Intersection over union compares the maps with them" in told(without[1])[1]


def test_true_regions_that_do_not_fit(worker: AnalysisWorker, pictures: list[Path]) -> None:
    asked = request(pictures[0], [methods.Saliency()], [PointingGame()])
    for path in pictures[1:3]:
        asked.images.add(encoded=path.read_bytes())
    asked.true_regions.extend([HERE] * 2)
    with pytest.raises(Failure, match="has 2 entries; must have one for each of the 3 images, or"):
        ask(worker, asked)
    small = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[1, 2], data=b"\x01\x01")
    asked.true_regions.insert(1, TrueRegion(mask=small))
    response = ask(worker, asked)
    reason, sentence = told(Failure.from_status(response.results[1].error))
    assert reason == "INVALID_REQUEST" and "true_regions[1].mask" in sentence
    assert all(response.results[index].HasField("explanation") for index in (0, 2))


def test_at_the_deadline_the_map_is_there_without_its_scores(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    measures: list[Message] = [
        Deletion(steps=2),
        MaxSensitivity(samples=200),
        ModelRandomization(),
        Completeness(),
        PointingGame(),
    ]
    wanted = [methods.SmoothGrad(samples=20)]
    asked = request(pictures[0], wanted, measures, allow_partial=True, true_regions=[HERE])
    [found] = attributions(ask(worker, asked, seconds=3))
    assert not found.is_partial and found.samples == 20
    deletion, sensitivity, _, completeness, pointing = found.scores
    assert deletion.HasField("value") and pointing.HasField("value")
    assert told(Failure.from_status(sensitivity.error))[0] == "DEADLINE_EXCEEDED"
    assert told(Failure.from_status(completeness.error))[0] == "MEASURE_NOT_APPLICABLE"
    asked.methods[0].smooth_grad.samples = 1000
    asked.measures[1].max_sensitivity.samples = 1
    [found] = attributions(ask(worker, asked, seconds=1))
    assert found.is_partial and 2 <= found.samples < 1000
    reasons = [told(Failure.from_status(each.error))[0] for each in list(found.scores)[:4]]
    assert reasons == ["DEADLINE_EXCEEDED"] * 3 + ["MEASURE_NOT_APPLICABLE"]


def test_a_map_that_is_stable_is_judged_as_one_that_is(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    measures: list[Message] = [Deletion(steps=4), MaxSensitivity(samples=2), ModelRandomization()]
    asked = request(pictures[0], [methods.SmoothGrad(samples=200)], measures, stable_share=0.5)
    found = [ask(worker, asked) for _ in range(2)]
    [first], [second] = map(attributions, found)
    assert not first.is_partial and 8 <= first.samples < 200
    assert all(each.HasField("value") for each in first.scores)
    assert first == second
    spent = found[0].receipt.cost.backward_passes
    assert 4 * first.samples <= spent < 4 * 200, "its neighbours end early too"


def test_a_measure_that_fails_loses_no_map(
    worker: AnalysisWorker, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = attributions(ask(worker, request(pictures[0], [methods.Saliency()], [])))

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr("convlens.workers.explain.judging.deletion", broken)
    measures: list[Message] = [Deletion(steps=2), Insertion(steps=2)]
    [found] = attributions(ask(worker, request(pictures[0], [methods.Saliency()], measures)))
    assert found.map == plain[0].map
    assert told(Failure.from_status(found.scores[0].error))[0] == "INTERNAL"
    assert found.scores[1].HasField("value")


def test_a_stream_shows_the_map_before_its_scores(
    worker: AnalysisWorker, pictures: list[Path]
) -> None:
    asked = request(pictures[0], [methods.Saliency()], [Deletion(steps=40)])
    stream = pb.ExplainStreamRequest(request=asked, partial_items=True, min_interval_ms=0)
    events = [
        pb.ExplainStreamResponse.FromString(reply.response)
        for reply in replies(worker, stream, "ExplainStream")
    ]
    items = [event.item for event in events if event.HasField("item")]
    assert [item.is_final for item in items] == [False, True]
    before, after = [item.result.attribution for item in items]
    assert before.map == after.map
    assert not before.scores and after.scores[0].HasField("value")
    response = ask(worker, asked)
    assert attributions(response) == [after]


def test_measures_depend_on_nobody_else(worker: AnalysisWorker, pictures: list[Path]) -> None:
    measures = list(SMALL.values())[:5]
    wanted = [methods.Saliency(), SMOOTH]
    alone = [attributions(ask(worker, request(each, wanted, measures))) for each in pictures[:3]]
    answers: dict[int, Any] = {}

    def one(index: int) -> None:
        asked = request(pictures[index], wanted, measures)
        answers[index] = attributions(ask(worker, asked))

    threads = [threading.Thread(target=one, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[index] for index in range(3)] == alone
