"""What a type checker sees. pyright checks `assert_type` when the sources are linted."""

import inspect
from typing import assert_type

import pytest

from convlens.client import (
    AsyncClient,
    AttackEvent,
    AttackVerdict,
    Classification,
    Client,
    ConvLensError,
    Cost,
    ExplainEvent,
    Explanation,
    Features,
    Health,
    Network,
    NetworkSummary,
    PretrainedWeights,
    RobustnessEvent,
    SynthesisDone,
    SynthesisEvent,
)
from convlens.client.methods import (
    PGD,
    ClassModel,
    FoolingGradient,
    LeastLikely,
    Occlusion,
    Rank,
    Saliency,
)

OPERATIONS = [
    *("classify", "classify_stream", "extract_features", "extract_features_stream"),
    *("explain", "explain_stream", "estimate", "attack", "attack_stream", "estimate_attack"),
    *("evaluate_robustness", "estimate_robustness"),
    *("synthesize", "synthesize_to_end", "estimate_synthesis"),
    *("networks", "network", "pretrained", "health"),
]


def test_types_of_the_client(server):
    with Client(server.address) as client:
        one = client.classify(b"x", top_k=1)
        several = client.classify([b"x"])
        outcomes = client.classify([b"x"], on_error="return")
        stream = next(client.classify_stream([b"x"]))
        with_errors = next(client.classify_stream([b"x"], on_error="return"))
        assert_type(one, Classification)
        assert_type(several, list[Classification])
        assert_type(outcomes, list[Classification | ConvLensError])
        assert_type(stream, Classification)
        assert_type(with_errors, Classification | ConvLensError)
        assert_type(client.extract_features(b"x", "logits"), Features)
        assert_type(client.extract_features([b"x"], ["logits"]), list[Features])
        codes = client.extract_features([b"x"], "logits", on_error="return")
        assert_type(codes, list[Features | ConvLensError])
        assert_type(next(client.extract_features_stream([b"x"], "logits")), Features)
        assert_type(client.explain(b"x", Saliency(), targets=[0, "cat", Rank(1)]), Explanation)
        assert_type(client.explain([b"x"], [Saliency(), Occlusion()]), list[Explanation])
        explained = client.explain([b"x"], Saliency(), on_error="return")
        assert_type(explained, list[Explanation | ConvLensError])
        assert_type(next(client.explain_stream(b"x", Saliency())), ExplainEvent)
        assert_type(client.estimate(b"x", Saliency(), targets="cat"), Cost)
        assert_type(client.attack(b"x", PGD(), target="dog"), AttackVerdict)
        assert_type(client.attack([b"x"], PGD(), target=LeastLikely()), list[AttackVerdict])
        attacked = client.attack([b"x"], PGD(), on_error="return")
        assert_type(attacked, list[AttackVerdict | ConvLensError])
        assert_type(next(client.attack_stream(b"x", PGD())), AttackEvent)
        assert_type(client.estimate_attack(b"x", PGD()), Cost)
        labelled = [("x", b"x", "cat")]
        event = next(client.evaluate_robustness(labelled, PGD(), epsilons=0.1))
        assert_type(event, RobustnessEvent)
        assert_type(client.estimate_robustness(labelled, [PGD()], epsilons=[0.1]), Cost)
        assert_type(next(client.synthesize(ClassModel(), target="cat")), SynthesisEvent)
        fooled = client.synthesize_to_end(FoolingGradient(steps=1), target=["cat", 1], canvas=16)
        assert_type(fooled, SynthesisDone)
        assert_type(client.estimate_synthesis(ClassModel(), target=0), Cost)
        assert_type(client.networks(), list[NetworkSummary])
        assert_type(client.network("pets"), Network)
        assert_type(client.pretrained("resnet"), list[PretrainedWeights])
        assert_type(client.health(), Health)
    assert [type(v).__name__ for v in (one, several, outcomes)] == [
        "Classification",
        "list",
        "list",
    ]


async def test_types_of_the_async_client(server):
    async with AsyncClient(server.address) as client:
        one = await client.classify(b"x", top_k=1)
        several = await client.classify([b"x"])
        outcomes = await client.classify([b"x"], on_error="return")
        stream = await anext(client.classify_stream([b"x"]))
        with_errors = await anext(client.classify_stream([b"x"], on_error="return"))
        assert_type(one, Classification)
        assert_type(several, list[Classification])
        assert_type(outcomes, list[Classification | ConvLensError])
        assert_type(stream, Classification)
        assert_type(with_errors, Classification | ConvLensError)
        assert_type(await client.extract_features(b"x", "logits"), Features)
        assert_type(await client.extract_features([b"x"], ["logits"]), list[Features])
        codes = await client.extract_features([b"x"], "logits", on_error="return")
        assert_type(codes, list[Features | ConvLensError])
        assert_type(await anext(client.extract_features_stream([b"x"], "logits")), Features)
        assert_type(await client.explain(b"x", Saliency()), Explanation)
        assert_type(await client.explain([b"x"], [Saliency(), Occlusion()]), list[Explanation])
        explained = await client.explain([b"x"], Saliency(), on_error="return")
        assert_type(explained, list[Explanation | ConvLensError])
        assert_type(await anext(client.explain_stream(b"x", Saliency())), ExplainEvent)
        assert_type(await client.estimate(b"x", Saliency(), targets="cat"), Cost)
        assert_type(await client.attack(b"x", PGD(), target="dog"), AttackVerdict)
        assert_type(await client.attack([b"x"], PGD(), target=LeastLikely()), list[AttackVerdict])
        attacked = await client.attack([b"x"], PGD(), on_error="return")
        assert_type(attacked, list[AttackVerdict | ConvLensError])
        assert_type(await anext(client.attack_stream(b"x", PGD())), AttackEvent)
        assert_type(await client.estimate_attack(b"x", PGD()), Cost)
        labelled = [("x", b"x", "cat")]
        event = await anext(client.evaluate_robustness(labelled, PGD(), epsilons=0.1))
        assert_type(event, RobustnessEvent)
        assert_type(await client.estimate_robustness(labelled, [PGD()], epsilons=[0.1]), Cost)
        event = await anext(client.synthesize(ClassModel(), target="cat"))
        assert_type(event, SynthesisEvent)
        fooled = await client.synthesize_to_end(FoolingGradient(steps=1), target=["cat", 1])
        assert_type(fooled, SynthesisDone)
        assert_type(await client.estimate_synthesis(ClassModel(), target=0), Cost)
        assert_type(await client.networks(), list[NetworkSummary])
        assert_type(await client.network("pets"), Network)
        assert_type(await client.pretrained("resnet"), list[PretrainedWeights])
        assert_type(await client.health(), Health)
    assert [type(v).__name__ for v in (one, several, outcomes)] == [
        "Classification",
        "list",
        "list",
    ]


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_clients_have_the_same_methods(name):
    blocking, awaiting = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(blocking) == inspect.signature(awaiting)
    assert blocking.__doc__ == awaiting.__doc__
    assert blocking.__name__ == name
    assert len(blocking.__doc__.splitlines()[0]) < 100


def test_no_method_is_missing_here():
    for cls in (Client, AsyncClient):
        public = {name for name in vars(cls) if not name.startswith("_")}
        assert public - {"address", "close"} == set(OPERATIONS)


def test_help_says_what_to_write():
    written = str(inspect.signature(Client.classify))
    assert written.startswith("(self, /, images: 'ImageInput | Sequence[ImageInput]', *, network")
    assert "timeout: 'float | None' = None" in written
    written = str(inspect.signature(AsyncClient.explain))
    assert "options" not in written
    for name in ("targets: 'TargetInput | Sequence[TargetInput]' = ()", "seed", "on_error"):
        assert name in written
