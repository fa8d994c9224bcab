"""What must hold of the documents of an overlay together; each rule tells what does not."""

import re
from collections.abc import Callable, Iterator

from convlens.contract.pools import POOL_OF_SERVICE
from convlens.server import gateway
from convlens.server.health import LIVENESS, READINESS, STARTUP
from convlens.server.settings import parse_address
from convlens.server.triton import engine
from convlens.workers.triton.sizing import shared_memory_of
from tests.deploy.commands import not_understood, repository, server_settings
from tests.deploy.kubectl import Doc
from tests.deploy.manifests import (
    ROOT,
    SERVER,
    TRITON,
    containers,
    environment,
    files,
    labels,
    named,
    of_kind,
    pod,
    ports,
    script_flag,
    selects,
    workloads,
)

Rule = Callable[[list[Doc]], Iterator[str]]
UNITS = {"Mi": 2**20, "Gi": 2**30}
# What torch and a small network take beside the shared memory.
WORKER_BYTES = 2 * 2**30
# What an operator makes, and deploy/README.md tells how.
BROUGHT = {"convlens-triton", "convlens-tokens"}


def size(text: str) -> int:
    return int(text[:-2]) * UNITS[text[-2:]]


def ends_in_time(docs: list[Doc]) -> Iterator[str]:
    """preStop and what the process takes to end are less than Kubernetes waits."""
    for each in workloads(docs):
        [container] = pod(each)["containers"]
        stop = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command")
        taken = float(stop[1]) if stop else 0.0
        if container["name"] == "server":
            settings = server_settings(docs, each)
            taken += settings.drain_delay + settings.drain_timeout + engine.CHANGE_SECONDS
            taken += gateway.LINGER_SECONDS + gateway.FLUSH_SECONDS
        elif container["name"] == "triton":
            given = environment(container).get("EXIT_SECONDS")
            taken += float(given or script_flag("exit-timeout-secs"))
        else:
            continue
        grace = pod(each)["terminationGracePeriodSeconds"]
        if not taken < grace:
            yield f"{each['metadata']['name']}: takes {taken} s to end, and gets {grace}"


def selectors_match(docs: list[Doc]) -> Iterator[str]:
    """Services, budgets, policies, spreads and monitors mean pods or services that are there."""
    pods = [labels(each) for each in workloads(docs)]
    for each in workloads(docs):
        name = each["metadata"]["name"]
        own = [each["spec"].get("selector", {})]
        own += [
            spread["labelSelector"] for spread in pod(each).get("topologySpreadConstraints", [])
        ]
        if not all(selects(selector, labels(each)) for selector in own):
            yield f"{name}: does not select its own pods"
        if sum(selects(own[0], found) for found in pods) > 1 and each["kind"] == "Deployment":
            yield f"{name}: selects pods of another"
    meant = [(each, {"matchLabels": each["spec"]["selector"]}) for each in of_kind(docs, "Service")]
    meant += [(each, each["spec"]["selector"]) for each in of_kind(docs, "PodDisruptionBudget")]
    meant += [(each, each["spec"]["podSelector"]) for each in of_kind(docs, "NetworkPolicy")]
    for each, selector in meant:
        if not any(selects(selector, found) for found in pods):
            yield f"{each['kind']} {each['metadata']['name']}: selects nothing"
    for monitor in of_kind(docs, "ServiceMonitor"):
        watched = [
            service
            for service in of_kind(docs, "Service")
            if selects(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        for endpoint in monitor["spec"]["endpoints"]:
            for service in of_kind(docs, "Service"):
                named_ports = {port["name"] for port in service["spec"]["ports"]}
                if service not in watched or endpoint["port"] not in named_ports:
                    yield f"{service['metadata']['name']} is not watched"


def ports_match(docs: list[Doc]) -> Iterator[str]:
    """Containers say the ports on which they listen; services and policies mean these."""
    for each in workloads(docs, SERVER):
        settings = server_settings(docs, each)
        listens = (settings.listen, settings.health_listen, settings.metrics_listen)
        if sorted(ports(each).values()) != sorted(parse_address(at).port for at in listens):
            yield f"{each['metadata']['name']}: listens on {listens}"
    for each in workloads(docs, TRITON):
        said = [int(script_flag(flag)) for flag in ("grpc-port", "metrics-port")]
        if sorted(ports(each).values()) != said:
            yield f"{each['metadata']['name']}: listens on {said}"
    for service in of_kind(docs, "Service"):
        for each in workloads(docs):
            if selects({"matchLabels": service["spec"]["selector"]}, labels(each)):
                for port in service["spec"]["ports"]:
                    if ports(each).get(port["targetPort"]) != port["port"]:
                        yield f"{service['metadata']['name']}: {port['name']} is no port"
    for policy in of_kind(docs, "NetworkPolicy"):
        yield from _policy_ports(docs, policy)


def _policy_ports(docs: list[Doc], policy: Doc) -> Iterator[str]:
    """Where a policy names pods of ours, they have the ports."""
    spec, name = policy["spec"], policy["metadata"]["name"]
    ways = [(spec["podSelector"], rule) for rule in spec.get("ingress", [])]
    for rule in spec.get("egress", []):
        peers = [peer for peer in rule.get("to", []) if set(peer) == {"podSelector"}]
        ways += [(peer["podSelector"], rule) for peer in peers]
    for selector, rule in ways:
        for each in workloads(docs):
            wanted = {port["port"] for port in rule.get("ports", [])}
            if selects(selector, labels(each)) and not wanted <= set(ports(each).values()):
                yield f"NetworkPolicy {name}: {each['metadata']['name']} has no {wanted}"


def probes_are_served(docs: list[Doc]) -> Iterator[str]:
    """Each probe asks a port that is there, for what it is meant to say."""
    meant = {"startupProbe": STARTUP, "readinessProbe": READINESS, "livenessProbe": LIVENESS}
    for each in workloads(docs, SERVER) + workloads(docs, TRITON):
        container, name = pod(each)["containers"][0], each["metadata"]["name"]
        for probe, service in meant.items():
            asked = container.get(probe, {}).get("grpc")
            if container["name"] == "server":
                health = parse_address(server_settings(docs, each).health_listen).port
                if not asked or (asked["port"], asked.get("service")) != (health, service):
                    yield f"{name}: {probe} must ask port {health} for {service}"
            elif probe == "livenessProbe":
                path = container.get(probe, {}).get("httpGet", {})
                if (path.get("path"), path.get("port")) != ("/metrics", "metrics"):
                    yield f"{name}: {probe} must look at the process alone"
            elif not asked or asked["port"] != ports(each)["grpc"] or "service" in asked:
                yield f"{name}: {probe} must ask Triton"
    # None of these is the name of a service, which could not answer for a while.
    assert not set(meant.values()) & set(POOL_OF_SERVICE)


def config_is_used(docs: list[Doc]) -> Iterator[str]:
    """Every key of a ConfigMap is read, every volume is mounted, and what is meant is there."""
    used = set[tuple[str, str]]()
    for each in workloads(docs):
        name, volumes = each["metadata"]["name"], pod(each).get("volumes", [])
        mounts = [mount for one in containers(each) for mount in one.get("volumeMounts", [])]
        if {mount["name"] for mount in mounts} != {volume["name"] for volume in volumes}:
            yield f"{name}: volumes and mounts differ"
        for container in containers(each):
            words = [*container.get("command", []), *container.get("args", [])]
            for path, config, _ in files(docs, each, container):
                if any(word.endswith(path) for word in words):
                    used.add((config, path.rpartition("/")[2]))
        yield from _sources(docs, each)
    for config in of_kind(docs, "ConfigMap"):
        # Grafana's sidecar finds these by their label.
        if "grafana_dashboard" in config["metadata"].get("labels", {}):
            continue
        for key in config["data"]:
            if (config["metadata"]["name"], key) not in used:
                yield f"ConfigMap {config['metadata']['name']}: nobody reads {key}"


def _sources(docs: list[Doc], workload: Doc) -> Iterator[str]:
    """ConfigMaps, Secrets, claims and accounts of a workload that nobody makes."""
    made = {each["spec"]["secretName"] for each in of_kind(docs, "Certificate")}
    wanted = [("ServiceAccount", pod(workload).get("serviceAccountName", ""))]
    for volume in pod(workload).get("volumes", []):
        wanted.append(("ConfigMap", volume.get("configMap", {}).get("name", "")))
        wanted.append(("Secret", volume.get("secret", {}).get("secretName", "")))
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        wanted.append(("PersistentVolumeClaim", claim))
    for container in containers(workload):
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            wanted.append(("Secret", source.get("secretKeyRef", {}).get("name", "")))
    for kind, name in wanted:
        is_made = named(docs, kind, name) or (kind == "Secret" and name in made | BROUGHT)
        if name and not is_made:
            yield f"{workload['metadata']['name']}: there is no {kind} {name}"


def commands_understand(docs: list[Doc]) -> Iterator[str]:
    """Flags, variables and files are those of the commands."""
    for each in workloads(docs):
        yield from not_understood(docs, each)


def tritons_are_found(docs: list[Doc]) -> Iterator[str]:
    """The server asks the headless service of each pool, and each pool has its service."""
    for server in workloads(docs, SERVER):
        urls = server_settings(docs, server).triton_url.split(",")
        places = {(place.host, place.port) for place in map(parse_address, urls)}
        services = [
            (service["metadata"]["name"], port["port"])
            for service in of_kind(docs, "Service")
            for port in service["spec"]["ports"]
            if service["spec"]["clusterIP"] == "None" and port["name"] == "grpc"
        ]
        if places != {each for each in services if each[0].startswith("triton")}:
            yield f"triton_url: {urls} are not the services {services}"
        pools = sorted(repository(docs, triton)[2] for triton in workloads(docs, TRITON))
        if pools != ["analysis", "inference"]:
            yield f"pools: {pools}"


def memory_suffices(docs: list[Doc]) -> Iterator[str]:
    """/dev/shm is as large as the generator says, and fits into the memory of the container."""
    for triton in workloads(docs, TRITON):
        name, container = triton["metadata"]["name"], pod(triton)["containers"][0]
        config, gpus, pool = repository(docs, triton)
        [server] = workloads(docs, SERVER)
        largest = server_settings(docs, server).max_message_bytes
        needed = shared_memory_of(config, gpus, largest, (pool,))
        [shm] = [each for each in pod(triton)["volumes"] if each["name"] == "shm"]
        mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
        given = size(shm["emptyDir"]["sizeLimit"])
        if shm["emptyDir"].get("medium") != "Memory" or mounted["shm"] != "/dev/shm":
            yield f"{name}: /dev/shm is no memory"
        if given != needed:
            yield f"{name}: /dev/shm must be {needed // 2**20}Mi"
        limits = container.get("resources", {}).get("limits", {})
        if limits and size(limits["memory"]) < given + WORKER_BYTES * max(1, gpus):
            yield f"{name}: memory does not hold /dev/shm and the workers"
        devices = sum(int(n) for key, n in limits.items() if key.startswith("nvidia.com/"))
        if limits and devices != gpus:
            yield f"{name}: has {devices} GPUs and is told of {gpus}"
        if not gpus and limits and "cpu" not in limits:
            yield f"{name}: threads are counted by limits.cpu"


def one_version(docs: list[Doc]) -> Iterator[str]:
    """Our images have the version of the project; others would have one too."""
    text = (ROOT / "server/pyproject.toml").read_text()
    [version] = re.findall(r'^version = "(.+)"$', text, re.MULTILINE)
    for each in workloads(docs):
        for container in containers(each):
            image, _, tag = container["image"].partition(":")
            if image.startswith("convlens/") and tag != version:
                yield f"{each['metadata']['name']}: {image} is {tag}, and this is {version}"
            if not tag or tag == "latest":
                yield f"{each['metadata']['name']}: {image} has no version"


def restricted(docs: list[Doc]) -> Iterator[str]:
    """Pods are as the Pod Security Standard `restricted` wants them, and write to volumes alone."""
    for each in workloads(docs):
        name, spec = each["metadata"]["name"], pod(each)
        whole = spec.get("securityContext", {})
        if not whole.get("runAsNonRoot") or not whole.get("runAsUser"):
            yield f"{name}: may run as root"
        if whole.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: has no seccomp profile"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{name}: is given a token of Kubernetes"
        if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name}: shares the host's"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{name}: mounts the host"
        for container in containers(each):
            own = container.get("securityContext", {})
            wanted = {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            if own != wanted:
                yield f"{name}: {container['name']} has {own}"


def only_those_who_may(docs: list[Doc]) -> Iterator[str]:
    """The server alone reaches Triton, Prometheus alone its metrics; nothing else comes in."""
    policies = of_kind(docs, "NetworkPolicy")
    closed = [
        policy
        for policy in policies
        if policy["spec"]["podSelector"] == {}
        and set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not {"ingress", "egress"} & set(policy["spec"])
    ]
    if not closed:
        yield "nothing is shut"
    [server] = workloads(docs, SERVER)
    monitoring = {"kubernetes.io/metadata.name": "monitoring"}
    for policy in policies:
        hit = [
            each for each in workloads(docs) if selects(policy["spec"]["podSelector"], labels(each))
        ]
        for rule in policy["spec"].get("ingress", []):
            who, to = rule.get("from", []), {port["port"] for port in rule.get("ports", [])}
            for each in hit:
                found = ports(each)
                is_triton = each in workloads(docs, TRITON)
                if not to:
                    yield f"{policy['metadata']['name']}: lets all ports in"
                if to & {found.get("metrics")} and not all(
                    peer.get("namespaceSelector", {}).get("matchLabels") == monitoring
                    for peer in who or [{}]
                ):
                    yield f"{policy['metadata']['name']}: lets others see the metrics"
                if (
                    is_triton
                    and to & {found["grpc"]}
                    and not all(
                        set(peer) == {"podSelector"}
                        and selects(peer["podSelector"], labels(server))
                        and peer["podSelector"].get("matchLabels")
                        for peer in who or [{}]
                    )
                ):
                    yield f"{policy['metadata']['name']}: lets others reach Triton"


def in_one_namespace(docs: list[Doc]) -> Iterator[str]:
    """Everything is in the one namespace, which is there and lets restricted pods in alone."""
    [space] = of_kind(docs, "Namespace")
    wanted, level = space["metadata"]["name"], "pod-security.kubernetes.io/enforce"
    if space["metadata"].get("labels", {}).get(level) != "restricted":
        yield f"{wanted}: lets other pods in"
    for each in docs:
        if each is not space and each["metadata"].get("namespace") != wanted:
            yield f"{each['kind']} {each['metadata']['name']}: is not in {wanted}"


def scaled_by_one(docs: list[Doc]) -> Iterator[str]:
    """Who is scaled is there, has no number of its own, and is scaled by one alone."""
    scaled = [each["spec"]["scaleTargetRef"] for each in of_kind(docs, "ScaledObject")]
    scaled += [each["spec"]["scaleTargetRef"] for each in of_kind(docs, "HorizontalPodAutoscaler")]
    names = [each["name"] for each in scaled]
    for name in names:
        target = named(docs, "Deployment", name)
        if not target or "replicas" in target["spec"]:
            yield f"{name}: is no Deployment, or has a number of its own"
        if names.count(name) > 1:
            yield f"{name}: is scaled by two"


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(ends_in_time, selectors_match, ports_match, probes_are_served, config_is_used),
        *(commands_understand, tritons_are_found, memory_suffices, one_version, restricted),
        *(only_those_who_may, in_one_namespace, scaled_by_one),
    )
}
