"""Lists are made beside the jobs of a pool, which do not wait for them."""

import time
from threading import Event

import pytest

from convlens.contract.pools import DESCRIBE
from convlens.internal.v1.job_pb2 import Job, Reply
from convlens.v1.network_pb2 import ListPretrainedResponse, Network
from convlens.workers.builders import pretrained
from convlens.workers.catalog import load_network
from convlens.workers.config import NetworkEntry
from convlens.workers.jobs import Ticket
from convlens.workers.worker import InferenceWorker

LIST = "NetworkService/ListPretrained"


def test_a_list_that_takes_long_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Event()

    def slow(name_contains: str) -> ListPretrainedResponse:
        assert gate.wait(10)
        return ListPretrainedResponse(torchvision_version="1")

    monkeypatch.setattr(pretrained, "list_pretrained", slow)
    worker = InferenceWorker(load_network(NetworkEntry(name="shapes"), "cpu"))
    replies = dict[str, list[Reply]]({LIST: [], DESCRIBE: []})

    def ask(method: str) -> None:
        now = time.monotonic()
        job = Job(method=method)
        worker.run([Ticket(job, now, now + 60, lambda: False, replies[method].append)])

    assert worker.is_idle()
    ask(LIST)
    ask(DESCRIBE)
    assert Network.FromString(replies[DESCRIBE][0].response).name == "shapes"
    assert not replies[LIST] and not worker.is_idle()
    gate.set()
    worker.close()
    assert ListPretrainedResponse.FromString(replies[LIST][0].response).torchvision_version == "1"
    assert worker.is_idle()
