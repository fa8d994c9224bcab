"""Scenarios: those that come with the command, and what is said of wrong ones."""

from pathlib import Path

import pytest
import yaml

from convlens.loadtest.results.limits import check_names, parse_limit
from convlens.loadtest.scenario import BadScenario, read_scenario, shipped, text_of
from convlens.loadtest.scenario.changes import changed
from convlens.loadtest.scenario.reading import Source
from convlens.loadtest.scenario.reference import scenarios_page
from convlens.loadtest.traffic.requests import prepared
from convlens.loadtest.traffic.rpcs import METHODS
from convlens.v1 import adversarial_pb2, classification_pb2
from tests.loadtest.conftest import Run

ROOT = Path(__file__).parents[2]
PHASES = "phases: [{name: x, duration: 1s, open: {rate: 1}}]\n"
SHIPPED = [
    *("classify-saturation", "connection-churn", "explain-heavy", "mixed-tenants"),
    *("overload-5x", "smoke", "soak"),
]


def source(text: str, folder: Path = Path()) -> Source:
    return Source("mine.yaml", text, folder)


def test_those_that_come_with_the_command() -> None:
    assert shipped() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_each_of_them_can_be_run(name: str) -> None:
    scenario = read_scenario(text_of(name))
    assert scenario.about.endswith(".")
    assert all(call.variants for call in prepared(scenario, Path()))
    phases = [phase.name for phase in scenario.phases]
    limits = [
        *(parse_limit(text) for text in scenario.limits),
        *(parse_limit(text, (phase.name,)) for phase in scenario.phases for text in phase.limits),
    ]
    for limit in limits:
        check_names(limit, phases, scenario.calls, scenario.tenants)


def test_list_and_show(invoke: Run) -> None:
    lines = invoke("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
    assert yaml.safe_load(invoke("show", "smoke").stdout)["calls"].keys() >= {"classify", "attack"}
    wrong = invoke("show", "smok")
    assert wrong.exit_code == 1 and "Did you mean smoke?" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "line 1, column 5"),
        ("- 1", "is no scenario"),
        ("[" * 3000, "is nested too deeply, or holds itself"),
        ("a: &x [*x]", "is nested too deeply, or holds itself"),
        (
            f"{PHASES}calls: {{a: {{rpc: Classify}}}}\n"
            "pictures: {size: [8192, 8192], distinct: 64}",
            "pictures: 64 pictures of 8192 x 8192 pixels are more than",
        ),
        (PHASES, "calls: it is missing"),
        (f"{PHASES}calls: {{}}", "calls: "),
        (
            f"{PHASES}calls:\n  a:\n    rcp: x\n",
            "line 4, calls.a.rcp: there is no such key; keys are rpc, body",
        ),
        (f"{PHASES}calls:\n  a:\n    rcp: x\n", "did you mean rpc?"),
        (
            "calls: {a: {rpc: Classify}}\n"
            "phases:\n- name: x\n  duration: 3 weeks\n  open: {rate: 1}",
            "line 4, phases.0.duration: '3 weeks' is no time; write it as '250ms'",
        ),
        (
            "calls: {a: {rpc: Classify}}\nphases: [{name: x, duration: 3, open: {rate: fast}}]",
            "phases.0.open.rate: 'fast' is no rate",
        ),
        (
            "calls: {a: {rpc: Classify}}\nphases: [{name: x, duration: 3}]",
            "there is no load in it; give open, closed or steps",
        ),
        (
            "calls: {a: {rpc: Classify}}\nphases: [{name: a, duration: 3, open: {rate: 1}}]",
            "'a' is the name of two things",
        ),
        (
            "calls: {a: {rpc: Classify}}\nphases: [{name: x, duration: 3, open: {rate: 2 * peak}}]",
            "no phase before it has steps",
        ),
        (
            "calls: {a: {rpc: Classify}}\n"
            "phases: [{name: x, duration: 3, open: {rate: 1, mix: {b: 1}}}]",
            "phases.0.open.mix: there is no call 'b'; there are a",
        ),
        (f"{PHASES}calls: {{a: {{rpc: Classify, images: 65}}}}", "less than or equal to 64"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadScenario) as raised:
        read_scenario(source(text))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("{rpc: Clasify}", "calls.a.rpc is 'Clasify'; RPCs are Attack, "),
        ("{rpc: Explain, body: {methods: [{salency: {}}]}}", "there is no 'salency'"),
        ("{rpc: Explain, body: {methods: [{salency: {}}]}}", "it has saliency, input_x_gradient"),
        ("{rpc: Explain}", "breaks the contract: methods has 0 entries"),
        ("{rpc: Attack, body: [{}]}", "calls.a.body is a list; Attack takes one message"),
        ("{rpc: Classify, pictures: {folder: /nowhere}}", "there is no such folder"),
    ],
)
def test_requests_are_checked_before_they_are_sent(call: str, said: str) -> None:
    with pytest.raises(BadScenario) as raised:
        prepared(read_scenario(source(f"{PHASES}calls: {{a: {call}}}")), Path())
    assert said in str(raised.value)


def test_requests_have_their_pictures_and_their_network(tmp_path: Path, pictures) -> None:
    for name in pictures[:3]:
        (tmp_path / name.name).write_bytes(name.read_bytes())
    text = f"""
network: shapes@1
pictures: {{folder: ., distinct: 2}}
calls:
  one: {{rpc: Classify, images: 3, body: {{top_k: 2}}}}
  stream: {{rpc: ClassifyStream, messages: 3, pictures: {{format: tensor, size: [20, 10]}}}}
  survey:
    rpc: EvaluateRobustness
    body:
    - plan: {{attacks: [{{fgsm: {{}}}}], epsilons: [0.01]}}
    - batch: {{images: [{{id: a, true_class: {{label: star}}}}]}}
{PHASES}"""
    calls = {call.name: call for call in prepared(read_scenario(source(text)), tmp_path)}
    one = classification_pb2.ClassifyRequest.FromString(calls["one"].variants[0][0])
    assert (one.network, one.top_k, len(one.images)) == ("shapes@1", 2, 3)
    assert one.images[0] == one.images[2] != one.images[1]
    assert one.images[0].encoded in {name.read_bytes() for name in pictures[:3]}
    stream = [
        classification_pb2.ClassifyStreamRequest.FromString(data)
        for data in calls["stream"].variants[0]
    ]
    assert [each.id for each in stream] == [0, 1, 2]
    assert stream[0].request.images[0].tensor.shape == [10, 20, 3]
    plan, batch = (
        adversarial_pb2.EvaluateRobustnessRequest.FromString(data)
        for data in calls["survey"].variants[0]
    )
    assert plan.plan.network == "shapes@1"
    assert batch.batch.images[0].image.encoded


def test_drawn_pictures_come_from_the_seed() -> None:
    text = f"{PHASES}calls: {{a: {{rpc: Classify}}}}"
    first, again, other = (
        prepared(read_scenario(source(f"{text}\nseed: {seed}")), Path())[0].variants
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len({one for [one] in first}) == 16


def test_values_may_be_changed() -> None:
    text = text_of("overload-5x")
    new = read_scenario(
        source(changed(text, ["phases.overload.duration=7s", "phases.1.steps.each=1", "seed=4"]))
    )
    assert (new.phases[2].duration, new.phases[1].longest, new.seed) == (7, 20, 4)
    for change, said in {
        "phases.rush.duration=7s": "there is no 'rush'; there are warm-up, saturation",
        "seed": "write KEY=VALUE",
        "deadline.x=1": "nothing within a single value",
        "phases.9.name=x": "there is no '9'",
    }.items():
        with pytest.raises(BadScenario) as raised:
            changed(text, [change])
        assert said in str(raised.value)
    for spoiled, said in {"a: [": "line 1, column 5: ", "- 1": "must have keys"}.items():
        with pytest.raises(BadScenario) as raised:
            changed(source(spoiled), ["seed=1"])
        assert said in str(raised.value)


def test_every_rpc_is_known() -> None:
    assert {"Classify", "Explain", "Attack", "Synthesize", "EvaluateRobustness"} <= METHODS.keys()


def test_the_reference_is_fresh() -> None:
    assert (ROOT / "docs/scenarios.md").read_text(encoding="utf-8") == scenarios_page(), (
        "run: python -m convlens.loadtest.scenario.reference docs"
    )
