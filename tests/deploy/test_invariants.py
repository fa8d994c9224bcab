"""Each rule for the manifests is able to fail: documents are spoiled, and the rule says so."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.deploy.invariants import RULES
from tests.deploy.kubectl import Doc, rendered
from tests.deploy.manifests import SERVER, TRITON, containers, named, of_kind, pod, workloads

Docs = list[Doc]


def server(docs: Docs) -> Doc:
    return workloads(docs, SERVER)[0]


def triton(docs: Docs) -> Doc:
    return workloads(docs, TRITON)[0]


def own(workload: Doc) -> Doc:
    return containers(workload)[-1]


def doc(docs: Docs, kind: str, name: str) -> Doc:
    found = named(docs, kind, name)
    assert found
    return found


def settings(docs: Docs) -> Doc:
    return next(
        each for each in of_kind(docs, "ConfigMap") if "server-settings.yaml" in each["data"]
    )


def say(docs: Docs, old: str, new: str) -> None:
    """Changes the settings of the server."""
    data = settings(docs)["data"]
    assert old in data["server-settings.yaml"]
    data["server-settings.yaml"] = data["server-settings.yaml"].replace(old, new)


def shm(docs: Docs) -> Doc:
    return next(each for each in pod(triton(docs))["volumes"] if each["name"] == "shm")


def rules_of(docs: Docs, name: str) -> Any:
    return doc(docs, "NetworkPolicy", name)["spec"]["ingress"]


SPOILED: list[tuple[str, str, Callable[[Docs], object]]] = [
    ("ends_in_time", "cpu", lambda d: pod(server(d)).update(terminationGracePeriodSeconds=70)),
    ("ends_in_time", "cpu", lambda d: say(d, "drain_timeout: 60", "drain_timeout: 90")),
    ("ends_in_time", "cpu", lambda d: pod(triton(d)).update(terminationGracePeriodSeconds=75)),
    (
        "ends_in_time",
        "cpu",
        lambda d: own(triton(d))["lifecycle"]["preStop"]["exec"].update(command=["sleep", "60"]),
    ),
    (
        "selectors_match",
        "cpu",
        lambda d: doc(d, "Service", "convlens")["spec"]["selector"].update(other="label"),
    ),
    (
        "selectors_match",
        "cpu",
        lambda d: doc(d, "PodDisruptionBudget", "triton-analysis")["spec"]["selector"][
            "matchLabels"
        ].update({"app.kubernetes.io/component": "analyses"}),
    ),
    (
        "selectors_match",
        "cpu",
        lambda d: pod(triton(d))["topologySpreadConstraints"][0]["labelSelector"].update(
            matchLabels={"a": "b"}
        ),
    ),
    (
        "selectors_match",
        "monitoring",
        lambda d: doc(d, "Service", "triton-analysis")["metadata"]["labels"].clear(),
    ),
    ("ports_match", "cpu", lambda d: say(d, "0.0.0.0:9464", "0.0.0.0:9465")),
    (
        "ports_match",
        "cpu",
        lambda d: doc(d, "Service", "convlens")["spec"]["ports"][0].update(targetPort="rpc"),
    ),
    ("ports_match", "cpu", lambda d: own(triton(d))["ports"][0].update(containerPort=8000)),
    (
        "ports_match",
        "cpu",
        lambda d: rules_of(d, "convlens-server")[1].update(ports=[{"port": 50053}]),
    ),
    (
        "probes_are_served",
        "cpu",
        lambda d: own(server(d))["livenessProbe"]["grpc"].update(service="readiness"),
    ),
    (
        "probes_are_served",
        "cpu",
        lambda d: own(server(d))["readinessProbe"]["grpc"].update(port=50051),
    ),
    (
        "probes_are_served",
        "cpu",
        lambda d: own(triton(d)).update(livenessProbe={"grpc": {"port": 8001}}),
    ),
    (
        "commands_understand",
        "loadtest",
        lambda d: own(workloads(d)[0]).update(args=["smoke.yaml", "--server", "convlens:50051"]),
    ),
    ("commands_understand", "loadtest", lambda d: own(workloads(d)[0])["args"].append("--tsl")),
    ("config_is_used", "cpu", lambda d: settings(d)["data"].update({"more.yaml": ""})),
    ("config_is_used", "cpu", lambda d: own(server(d))["volumeMounts"].pop()),
    ("config_is_used", "cpu", lambda d: d.remove(settings(d))),
    (
        "config_is_used",
        "gpu",
        lambda d: own(triton(d))["env"][0]["valueFrom"]["secretKeyRef"].update(name="other"),
    ),
    ("config_is_used", "mtls", lambda d: d.remove(doc(d, "Certificate", "convlens-server"))),
    (
        "commands_understand",
        "cpu",
        lambda d: own(server(d))["env"].append({"name": "CONVLENS_LISTENS", "value": "x"}),
    ),
    ("commands_understand", "cpu", lambda d: own(server(d))["args"].append("--verbose")),
    ("commands_understand", "cpu", lambda d: say(d, "drain_delay", "drain_dalay")),
    # Without TLS in production somebody must have said that this is meant.
    ("commands_understand", "cpu", lambda d: say(d, "insecure: true", "insecure: false")),
    ("commands_understand", "cpu", lambda d: own(triton(d))["args"].append("--pools=both")),
    ("commands_understand", "cpu", lambda d: own(triton(d))["args"].append("--pool=both")),
    (
        "commands_understand",
        "cpu",
        lambda d: own(triton(d))["env"].append({"name": "EXIT", "value": "1"}),
    ),
    ("tritons_are_found", "cpu", lambda d: say(d, "triton-analysis:8001", "triton-analysis:8000")),
    (
        "tritons_are_found",
        "cpu",
        lambda d: doc(d, "Service", "triton-analysis")["spec"].update(clusterIP=""),
    ),
    ("memory_suffices", "cpu", lambda d: shm(d)["emptyDir"].update(sizeLimit="64Mi")),
    ("memory_suffices", "cpu", lambda d: shm(d)["emptyDir"].pop("medium")),
    (
        "memory_suffices",
        "cpu",
        lambda d: own(triton(d))["resources"]["limits"].update(memory="2Gi"),
    ),
    ("memory_suffices", "cpu", lambda d: say(d, "engine:", "max_message_bytes: 99999999\nengine:")),
    ("memory_suffices", "gpu", lambda d: own(triton(d))["resources"]["limits"].popitem()),
    ("one_version", "cpu", lambda d: own(server(d)).update(image="convlens/server:0.0.9")),
    ("one_version", "cpu", lambda d: own(server(d)).update(image="other/server")),
    (
        "restricted",
        "cpu",
        lambda d: own(server(d))["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    ("restricted", "cpu", lambda d: pod(triton(d))["securityContext"].pop("runAsNonRoot")),
    ("restricted", "cpu", lambda d: pod(triton(d))["securityContext"].pop("seccompProfile")),
    ("restricted", "cpu", lambda d: pod(triton(d)).pop("automountServiceAccountToken")),
    ("restricted", "cpu", lambda d: pod(triton(d)).update(hostNetwork=True)),
    ("only_those_who_may", "cpu", lambda d: rules_of(d, "convlens-triton")[0].pop("from")),
    (
        "only_those_who_may",
        "cpu",
        lambda d: rules_of(d, "convlens-triton")[0]["from"][0].update(namespaceSelector={}),
    ),
    (
        "only_those_who_may",
        "cpu",
        lambda d: rules_of(d, "convlens-triton")[1]["from"][0].pop("namespaceSelector"),
    ),
    ("only_those_who_may", "cpu", lambda d: rules_of(d, "convlens-server")[1].pop("ports")),
    (
        "only_those_who_may",
        "cpu",
        lambda d: d.remove(doc(d, "NetworkPolicy", "convlens-nothing-else")),
    ),
    ("in_one_namespace", "cpu", lambda d: settings(d)["metadata"].update(namespace="default")),
    ("in_one_namespace", "cpu", lambda d: of_kind(d, "Namespace")[0]["metadata"].pop("labels")),
    ("scaled_by_one", "keda", lambda d: server(d)["spec"].update(replicas=2)),
    ("scaled_by_one", "hpa", lambda d: d.append(doc(d, "HorizontalPodAutoscaler", "convlens"))),
    ("scaled_by_one", "hpa", lambda d: d.remove(server(d))),
]


@pytest.mark.parametrize(
    ("rule", "overlay", "spoil"),
    SPOILED,
    ids=[f"{rule}-{number}" for number, (rule, _, _) in enumerate(SPOILED)],
)
def test_what_is_spoiled_is_told(rule: str, overlay: str, spoil: Callable[[Docs], object]) -> None:
    docs = rendered(overlay)
    assert list(RULES[rule](docs)) == []
    spoil(docs)
    assert list(RULES[rule](docs))


def test_each_rule_is_seen_to_fail() -> None:
    assert {rule for rule, _, _ in SPOILED} == set(RULES)
