"""What torch loads for seconds when it is first wanted, no caller waits for."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLS = """
import sys
from convlens.client import Client
from convlens.client.methods import *
from tests.conftest import PICTURES, running_server

picture = min(PICTURES.glob("*.png"))
maps = [Saliency(), GuidedBackprop(), GradCam(), Occlusion(window=64, stride=64)]
attacks = [PGD(steps=2), APGD(steps=2), DeepFool(steps=2), LBFGS(search_steps=1, steps=2)]
with running_server(engine="embedded") as server, Client(server.address, timeout=120) as client:
    client.classify(picture)
    client.extract_features(picture, "cnn-code")
    client.explain(picture, maps)
    for attack in [*attacks, CarliniWagner(search_steps=1, steps=2)]:
        client.attack(picture, attack)
    client.synthesize_to_end(ClassModel(steps=2), target=3)
    client.synthesize_to_end(Inversion(layer="features.2", steps=2), image=picture)
    client.synthesize_to_end(FoolingGradient(steps=2), target=3)
loaded = {"sympy", "torch._dynamo"} & sys.modules.keys()
assert not loaded, loaded
"""


def test_no_call_waits_for_torch_to_load_its_compiler() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CALLS], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
