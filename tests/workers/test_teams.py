"""OpenMP's teams: threads that have nothing to compute have none, which would slow others down.

In processes of their own, whose threads can be counted.
"""

import json
import subprocess
import sys
from typing import Any

COUNT = """
import json, os, threading, time
from concurrent.futures import ThreadPoolExecutor

def teams() -> int:
    "The threads that are neither Python's nor those in which torch goes back on GPUs."
    mine = {each.native_id for each in threading.enumerate()}
    found = 0
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as name:
                found += int(task) not in mine and not name.read().startswith("pt_autograd")
        except (FileNotFoundError, ProcessLookupError):
            "It has ended meanwhile."
    return found

def settled(most: int) -> int:
    "How many there are, once there are no more than that: a thread is seen for a moment longer."
    until = time.monotonic() + 10
    while teams() > most and time.monotonic() < until:
        time.sleep(0.01)
    return teams()

import torch
from convlens.workers import teams as teams_module
torch.set_num_threads(3)
many = torch.rand(10**6)
before = teams()
"""


def said_by(script: str) -> Any:
    """What a script prints as JSON."""
    command = [sys.executable, "-c", COUNT + script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_team_lasts_until_it_is_let_go() -> None:
    script = """
many.sum()
with_team = teams() - before
teams_module.let_go()
without = settled(before) - before
again = float(many.sum()) == float(many.sum()) and teams() - before
print(json.dumps([with_team, without, again]))
"""
    with_team, without, again = said_by(script)
    assert with_team == again == without + 2


def test_a_thread_that_goes_alone_leaves_the_others_their_threads() -> None:
    script = """
executor = ThreadPoolExecutor(1, initializer=teams_module.go_alone)
square = torch.rand(1500, 1500)
def compute():
    # MKL has a number of threads of its own.
    return float(many.sum() + (square @ square).sum()) and torch.get_num_threads()
alone = executor.submit(lambda: (compute(), teams())).result()
others = ThreadPoolExecutor(1).submit(torch.get_num_threads).result()
def with_others():
    with teams_module.together():
        return compute(), teams() - before
together = executor.submit(with_others).result()
after = executor.submit(compute).result(), settled(before) - before
print(json.dumps([*alone, before, torch.get_num_threads(), others, together, after]))
"""
    alone, there, before, mine, others, together, after = said_by(script)
    assert (alone, mine, others) == (1, 3, 3)
    assert there == before
    assert together == [3, 2]
    assert after == [1, 0]


def test_idle_pools_have_no_team() -> None:
    # A pool in which a thread has one makes every pass of the other slower.
    script = """
from pathlib import Path
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1.classification_pb2 import ClassifyRequest
from convlens.v1.explanation_methods_pb2 import ExplanationMethod, Saliency
from convlens.v1.explanation_pb2 import ExplainRequest
from convlens.v1.image_pb2 import Image
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry, Pools
from convlens.workers.intake import Intake
from convlens.workers.jobs import Ticket
from convlens.workers.shapes.dataset import HELD_OUT, dataset
from convlens.workers.worker import AnalysisWorker, InferenceWorker
from PIL import Image as Picture
import io

network = load_network(NetworkEntry(name="shapes"), "cpu")
pools = Pools()
ways = {
    "inference": Intake("inference", pools.inference, InferenceWorker(network)),
    "analysis": Intake("analysis", pools.analysis, AnalysisWorker(network, pools.analysis)),
}
loaded = teams() - before
teams_module.let_go()
file = io.BytesIO()
Picture.fromarray(dataset(HELD_OUT[:1]).images[0]).save(file, "PNG")
image = Image(encoded=file.getvalue())
asked = [
    ("inference", "ClassificationService/Classify", ClassifyRequest(images=[image])),
    (
        "analysis",
        "ExplanationService/Explain",
        ExplainRequest(images=[image], methods=[ExplanationMethod(saliency=Saliency())]),
    ),
]
replies = []
for pool, method, request in asked:
    done = threading.Event()
    def reply(answer, done=done):
        replies.append(answer)
        answer.more or done.set()
    now = time.monotonic()
    job = Job(method=method, request=request.SerializeToString())
    ways[pool].submit(Ticket(job, now, now + 60, lambda: False, reply))
    assert done.wait(60)
left = settled(before) - before
errors = [str(each.error) for each in replies]
print(json.dumps([loaded, left, errors, network.receipt().threads]))
"""
    loaded, left, errors, threads = said_by(script)
    # Passes make teams.
    assert loaded == 2
    assert errors == ["", ""]
    assert left == 0
    # What a receipt says is the number of those that compute passes.
    assert threads == 3
