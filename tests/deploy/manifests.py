"""The documents of an overlay, as the rules of these tests look at them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deploy.kubectl import Doc

ROOT = Path(__file__).parents[2]
SERVE_TRITON = (ROOT / "deploy/docker/serve-triton").read_text()
NAME = "app.kubernetes.io/name"
SERVER, TRITON = "convlens-server", "convlens-triton"


def of_kind(docs: list[Doc], kind: str) -> list[Doc]:
    return [doc for doc in docs if doc["kind"] == kind]


def named(docs: list[Doc], kind: str, name: str) -> Doc | None:
    return next((each for each in of_kind(docs, kind) if each["metadata"]["name"] == name), None)


def workloads(docs: list[Doc], name: str = "") -> list[Doc]:
    """What has pods: all, or those of this name."""
    found = [*of_kind(docs, "Deployment"), *of_kind(docs, "Job")]
    return [each for each in found if not name or labels(each).get(NAME) == name]


def pod(workload: Doc) -> Doc:
    return workload["spec"]["template"]["spec"]


def labels(workload: Doc) -> dict[str, str]:
    """Those of its pods."""
    return workload["spec"]["template"]["metadata"]["labels"]


def containers(workload: Doc) -> list[Doc]:
    return [*pod(workload).get("initContainers", []), *pod(workload)["containers"]]


def selects(selector: Doc, found: dict[str, str]) -> bool:
    """Whether a selector, of labels alone, matches these labels."""
    return selector.get("matchLabels", {}).items() <= found.items()


def ports(workload: Doc) -> dict[str, int]:
    """The ports of its containers, by name."""
    found = [port for each in containers(workload) for port in each.get("ports", [])]
    return {port["name"]: port["containerPort"] for port in found}


def environment(container: Doc) -> dict[str, Any]:
    """The variables of a container: their values, or where these come from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def files(docs: list[Doc], workload: Doc, container: Doc) -> Iterator[tuple[str, str, str]]:
    """Each file that a container has of a ConfigMap: its path, the ConfigMap's name, the text."""
    volumes = {volume["name"]: volume for volume in pod(workload)["volumes"]}
    for mount in container.get("volumeMounts", []):
        source = volumes.get(mount["name"], {}).get("configMap")
        config = named(docs, "ConfigMap", source["name"]) if source else None
        for key, text in (config or {}).get("data", {}).items():
            yield f"{mount['mountPath']}/{key}", source["name"], text


def script_flag(flag: str, script: str = SERVE_TRITON) -> str:
    """What serve-triton gives Triton for a flag; a variable's default where it is one."""
    found = re.search(rf"--{flag}=\S*?(\d+)\}}?\"? \\", script)
    assert found, f"serve-triton says nothing of --{flag}"
    return found[1]
