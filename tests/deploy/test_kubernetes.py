"""The manifests, without a cluster: as kustomize renders them, against Kubernetes' schemas and our own parts.

What the probes mean is asked of the running service in test_probes.
"""

import copy
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import kubernetes_validate
import pytest
import yaml

from server.api.metrics import EngineCollector
from server.bench.checkpoint import SHAPES
from server.engine import Statistics, plan_memory
from server.engine.kv_blocks import blocks_for
from server.serving import Serving
from server.settings import PREFIX, Settings, load_settings, variable
from server.weights import HParams, open_checkpoint
from tests.deploy.manifests import (
    ALL,
    SOURCE,
    Document,
    Manifests,
    can_render,
    quantity,
    render,
    selects,
    stages,
)
from tests.deploy.restricted import faults
from tests.service.stack import ROOT

# The oldest that has what the manifests need (sidecars), one between, and the newest whose schemas are there.
KUBERNETES = ("1.29", "1.33", "1.37")
# Brought by others than Kubernetes, so that its schemas do not have them: looked at by hand below.
OF_OTHERS = {"ServiceMonitor"}
MONITORING = ROOT / "deploy/monitoring"
ADAPTER_RULES = SOURCE / "overlays/crowd/prometheus-adapter-rules.yaml"
MIB = 2**20

pytestmark = pytest.mark.skipif(
    not can_render(),
    reason="neither kustomize nor kubectl is here: install kubectl (Debian: kubernetes-client)",
)


@pytest.fixture(params=ALL)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return render(request.param)


@pytest.fixture
def crowd() -> Manifests:
    return render("overlays/crowd")


@pytest.fixture
def one_node() -> Manifests:
    return render("overlays/one-node")


# --- What Kubernetes says of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_document_fits_the_schema_of_its_kind(manifests: Manifests, version: str) -> None:
    for document in manifests.documents:
        if document["kind"] not in OF_OTHERS:
            assert kubernetes_validate.validate(document, version, strict=True) == version


@pytest.mark.parametrize("version", KUBERNETES)
def test_a_field_that_does_not_exist_would_be_found(crowd: Manifests, version: str) -> None:
    wrong = copy.deepcopy(crowd.one("Deployment"))
    wrong["spec"]["template"]["spec"]["terminationGracePeriod"] = 90
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_everything_is_in_one_namespace_that_enforces_the_standard(manifests: Manifests) -> None:
    namespace = manifests.one("Namespace")["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for document in manifests.documents:
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == namespace["name"], document["kind"]


# --- Rights ----------------------------------------------------------------------------------------------------


def test_the_pod_is_restricted(manifests: Manifests) -> None:
    assert faults(manifests.pod["spec"]) == []
    assert manifests.pod["spec"]["serviceAccountName"] == manifests.one("ServiceAccount")["metadata"]["name"]
    assert manifests.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert not any(document["kind"].endswith(("Role", "RoleBinding")) for document in manifests.documents)


def _nginx(spec: Document) -> Document:
    [nginx] = spec["containers"]
    return cast(Document, nginx)


@pytest.mark.parametrize(
    ("loosen", "fault"),
    [
        (lambda spec: spec.update(hostNetwork=True), "hostNetwork"),
        (lambda spec: spec.pop("automountServiceAccountToken"), "a token is mounted"),
        (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "nginx may run as root"),
        (lambda spec: spec["securityContext"].update(runAsUser=0), "pod runs as root"),
        (lambda spec: spec["securityContext"].pop("seccompProfile"), "server has no seccomp profile"),
        (
            lambda spec: spec["securityContext"].update(seccompProfile={"type": "Unconfined"}),
            "pod has seccomp Unconfined",
        ),
        (lambda spec: spec["volumes"].append({"name": "host", "hostPath": {}}), "volume host is hostPath"),
        (lambda spec: _nginx(spec).pop("securityContext"), "nginx may gain rights"),
        (lambda spec: _nginx(spec)["securityContext"].update(privileged=True), "nginx is privileged"),
        (
            lambda spec: _nginx(spec)["securityContext"].update(
                capabilities={"drop": ["ALL"], "add": ["CHOWN"]}
            ),
            "nginx has capabilities",
        ),
        (
            lambda spec: _nginx(spec)["securityContext"].pop("readOnlyRootFilesystem"),
            "nginx may write to its root",
        ),
        (lambda spec: _nginx(spec)["ports"][0].update(hostPort=80), "nginx has a port of the host"),
    ],
)
def test_a_right_too_many_would_be_found(
    crowd: Manifests, loosen: Callable[[Document], object], fault: str
) -> None:
    spec = copy.deepcopy(crowd.pod["spec"])
    loosen(spec)
    assert fault in faults(spec)


def test_what_is_written_goes_to_a_volume(manifests: Manifests) -> None:
    """Which is NGINX_RUN, where nginx has all it writes; the server writes nothing (tests/image)."""
    where = dict(stages())["nginx"].partition("NGINX_RUN=")[2].split()[0]
    assert [mount["mountPath"] for mount in manifests.containers["nginx"]["volumeMounts"]] == [where]
    assert "volumeMounts" not in manifests.containers["server"]


# --- Images, ports and settings --------------------------------------------------------------------------------


def test_the_images_are_ours(manifests: Manifests) -> None:
    """Their names alone: in which registry they are is for those to say who have one."""
    for name, container in manifests.containers.items():
        assert container["image"].partition(":")[0] == f"pokegen-{name}"
        assert f"--tag pokegen-{name} " in (ROOT / "Makefile").read_text()
        assert name in dict(stages())
        assert container["imagePullPolicy"] == "IfNotPresent"


def test_the_user_is_the_images_own(manifests: Manifests) -> None:
    context = manifests.pod["spec"]["securityContext"]
    for name in manifests.containers:
        assert f"\nUSER {context['runAsUser']}:{context['runAsGroup']}\n" in dict(stages())[name]


def test_the_ports_are_those_of_the_images(manifests: Manifests) -> None:
    images = dict(stages())
    for name, container in manifests.containers.items():
        [exposed] = re.findall(r"^EXPOSE (.*)$", images[name], re.MULTILINE)
        for port in container["ports"]:
            assert str(port["containerPort"]) in exposed.split(), name
    assert f"POKEGEN_HTTP=0.0.0.0:{_port(manifests, 'server', 'plain')}" in images["server"]
    assert f"NGINX_LISTEN={_port(manifests, 'nginx', 'http')} " in images["nginx"]


def _port(manifests: Manifests, container: str, name: str) -> int:
    [found] = [port for port in manifests.containers[container]["ports"] if port["name"] == name]
    return int(found["containerPort"])


def test_the_uwsgi_protocol_stays_within_the_pod(manifests: Manifests) -> None:
    where = manifests.environment("nginx")["NGINX_UPSTREAM"]
    assert where == manifests.environment("server")["POKEGEN_SOCKET"]
    assert where.startswith("127.0.0.1:")
    published = {port["containerPort"] for each in manifests.containers.values() for port in each["ports"]}
    assert int(where.partition(":")[2]) not in published


@pytest.mark.parametrize("container", ["server", "nginx"])
def test_every_setting_exists_and_may_have_its_value(
    manifests: Manifests, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        monkeypatch.delenv(name)
    settings = {
        name: value for name, value in manifests.environment(container).items() if name.startswith(PREFIX)
    }
    assert settings
    assert settings.keys() <= {variable(name) for name in Settings.model_fields}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    load_settings()


def test_nginx_takes_the_settings_that_it_is_given(manifests: Manifests, tmp_path: Path) -> None:
    """nginx/start itself, with `true` in nginx's place: what it has made of them is what nginx would get."""
    (tmp_path / "nginx").symlink_to("/bin/true")
    environment = manifests.environment("nginx") | {
        "NGINX_LISTEN": "8080",
        "NGINX_RUN": str(tmp_path / "run"),
    }
    (tmp_path / "run").mkdir()
    subprocess.run(
        [ROOT / "nginx/start"],
        env=environment | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
        timeout=20,
    )
    made = (tmp_path / "run/nginx.conf").read_text()
    assert f"set $pokegen {environment['NGINX_UPSTREAM']};" in made
    assert f"worker_shutdown_timeout {environment['POKEGEN_GRACE']}s;" in made
    for proxy in environment.get("POKEGEN_TRUSTED_PROXIES", "").split(","):
        assert not proxy or f"set_real_ip_from {proxy};" in made


def test_both_containers_are_given_the_same_settings(manifests: Manifests) -> None:
    server, nginx = (manifests.containers[name]["envFrom"] for name in ("server", "nginx"))
    assert server == nginx


def test_behind_an_ingress_the_readers_address_is_known(crowd: Manifests) -> None:
    assert crowd.environment("nginx")["POKEGEN_TRUSTED_PROXIES"] != "none"


def test_at_a_port_of_the_node_the_readers_address_is_known(one_node: Manifests) -> None:
    service = one_node.one("Service")["spec"]
    assert service["type"] == "NodePort"
    assert service["externalTrafficPolicy"] == "Local"


# --- The beginning and the end of a pod ------------------------------------------------------------------------


def _patience(probe: Document) -> int:
    """For how many seconds a probe may fail before something is done about it."""
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def test_the_grace_times_fit_together(manifests: Manifests) -> None:
    settings, nginx = manifests.environment("server"), manifests.containers["nginx"]
    grace, timeout = int(settings["POKEGEN_GRACE"]), int(settings["POKEGEN_REQUEST_TIMEOUT"])
    assert grace > timeout, "an answer that has just begun may take so long"
    command, drain = nginx["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    for_the_server = manifests.pod["spec"]["terminationGracePeriodSeconds"] - int(drain) - grace
    assert for_the_server >= 10
    assert "\nSTOPSIGNAL SIGQUIT\n" in dict(stages())["nginx"], "TERM would cut answers off"
    assert "preStop" not in manifests.containers["server"].get("lifecycle", {}), (
        "it is asked after nginx has ended"
    )


def test_the_server_begins_before_nginx_and_ends_after_it(manifests: Manifests) -> None:
    """Which is what Kubernetes does with a sidecar: an init container that is always restarted."""
    [server] = manifests.pod["spec"]["initContainers"]
    assert server["name"] == "server"
    assert server["restartPolicy"] == "Always"
    assert "startupProbe" in server, "nginx would not wait for it"
    assert [container["name"] for container in manifests.pod["spec"]["containers"]] == ["nginx"]


@pytest.mark.parametrize(
    ("container", "probe", "sentence"),
    [
        ("server", "livenessProbe", "after {} s the server is started again"),
        ("nginx", "readinessProbe", "after some {} s no new readers are sent"),
        ("nginx", "livenessProbe", "after {} s nginx is started again"),
    ],
)
def test_the_probes_are_as_patient_as_the_page_says(
    manifests: Manifests, container: str, probe: str, sentence: str
) -> None:
    patience = _patience(manifests.containers[container][probe])
    assert sentence.format(patience) in (ROOT / "docs/kubernetes.md").read_text()


def test_a_start_is_given_as_long_as_the_image_gives_it(manifests: Manifests) -> None:
    [seconds] = re.findall(r"--start-period=(\d+)s", dict(stages())["server"])
    assert _patience(manifests.containers["server"]["startupProbe"]) >= int(seconds)


def test_every_probe_asks_what_is_there(manifests: Manifests) -> None:
    """Paths that the application has, or the site; ports that the container has; and a time to answer."""
    probes = {
        (name, kind.removesuffix("Probe")): (container[kind]["httpGet"]["path"], container[kind])
        for name, container in manifests.containers.items()
        for kind in container
        if kind.endswith("Probe")
    }
    assert {which: path for which, (path, _) in probes.items()} == {
        ("server", "startup"): "/readyz",
        ("server", "liveness"): "/healthz",
        ("nginx", "readiness"): "/readyz",
        ("nginx", "liveness"): "/",
    }
    for (name, _), (_, probe) in probes.items():
        assert _port(manifests, name, probe["httpGet"]["port"])
        assert 1 <= probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_an_update_takes_no_pod_away_before_another_is_ready(manifests: Manifests) -> None:
    update = manifests.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"] >= 1


# --- Who finds whom --------------------------------------------------------------------------------------------


def test_every_selector_finds_the_pods(manifests: Manifests) -> None:
    labels = manifests.pod["metadata"]["labels"]
    selectors = [
        manifests.one("Deployment")["spec"]["selector"]["matchLabels"],
        manifests.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        manifests.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(service["spec"]["selector"] for service in manifests.all("Service")),
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in manifests.pod["spec"]["topologySpreadConstraints"]
        ),
    ]
    for selector in selectors:
        assert selects(selector, labels), selector


def test_every_service_leads_to_a_port_of_the_pod(manifests: Manifests) -> None:
    ports = [port for container in manifests.containers.values() for port in container["ports"]]
    known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
    for service in manifests.all("Service"):
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in known


def test_the_ingress_leads_to_nginx(crowd: Manifests) -> None:
    ingress = crowd.one("Ingress")["spec"]
    [rule] = ingress["rules"]
    [path] = rule["http"]["paths"]
    backend = path["backend"]["service"]
    [service] = [each for each in crowd.all("Service") if each["metadata"]["name"] == backend["name"]]
    [port] = [each for each in service["spec"]["ports"] if each["name"] == backend["port"]["name"]]
    assert port["targetPort"] == "http"
    assert ingress["tls"][0]["hosts"] == [rule["host"]]
    assert rule["host"].endswith(".example"), "nobody's name"


def test_prometheus_finds_the_metrics(crowd: Manifests) -> None:
    """Under the name of a job that the alerts and the dashboard ask for, without Kubernetes too."""
    monitor = crowd.one("ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["spec"].keys() == {"jobLabel", "selector", "endpoints"}
    selector = monitor["spec"]["selector"]["matchLabels"]
    [service] = [
        each for each in crowd.all("Service") if selects(selector, each["metadata"].get("labels", {}))
    ]
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint.keys() == {"port", "path", "interval"}
    [port] = [each for each in service["spec"]["ports"] if each["name"] == endpoint["port"]]
    assert port["targetPort"] == _port(crowd, "server", "plain")
    assert endpoint["path"] == "/metrics"
    assert service["spec"]["clusterIP"] == "None"
    job = service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
    asked = ((MONITORING / name).read_text() for name in ("alerts.yml", "grafana/dashboard.json"))
    assert set(re.findall(r'job=\\?"(\w+)', "".join(asked))) == {job}
    [scrape] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    assert scrape["job_name"] == job


def test_the_documented_command_brings_the_alerts(crowd: Manifests) -> None:
    page = (ROOT / "docs/kubernetes.md").read_text()
    [command] = re.findall(r"^kubectl apply -f - <<END\n.*?^END\n", page, re.MULTILINE | re.DOTALL)
    sent = subprocess.run(
        ["bash", "-c", command.replace("kubectl apply -f -", "cat")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=20,
    ).stdout
    assert yaml.safe_load(sent) == {
        "apiVersion": crowd.one("ServiceMonitor")["apiVersion"],
        "kind": "PrometheusRule",
        "metadata": {"name": "pokegen", "namespace": crowd.one("Namespace")["metadata"]["name"]},
        "spec": yaml.safe_load((MONITORING / "alerts.yml").read_text()),
    }


def test_the_plain_port_is_prometheus_alone(manifests: Manifests) -> None:
    """No rule lets others to it; the Service that readers use does not have it; and the pods ask nobody."""
    policy, plain = manifests.one("NetworkPolicy")["spec"], _port(manifests, "server", "plain")
    rules = [rule for rule in policy["ingress"] if {"port": plain} in rule["ports"]]
    assert [rule["from"] for rule in rules] == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    ]
    open_ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert sorted(open_ports) == [plain, _port(manifests, "nginx", "http")]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["egress"] == []
    for service in manifests.all("Service"):
        if service["spec"].get("clusterIP") != "None":
            assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


def test_whoever_may_name_a_readers_address_is_the_ingress_controller_alone(crowd: Manifests) -> None:
    """For nginx believes whole networks, in which other pods are too."""
    [rule] = [
        rule
        for rule in crowd.one("NetworkPolicy")["spec"]["ingress"]
        if {"port": _port(crowd, "nginx", "http")} in rule["ports"]
    ]
    assert [set(peer) for peer in rule["from"]] == [{"namespaceSelector"}]


# --- How many, and how large -----------------------------------------------------------------------------------


def test_a_node_can_be_emptied(manifests: Manifests) -> None:
    budget = manifests.one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] >= 1
    assert "minAvailable" not in budget


def _asked_for(manifests: Manifests, resource: str) -> float:
    """What the scheduler finds room for: both containers run for as long as the pod does."""
    containers = manifests.containers.values()
    return sum(quantity(container["resources"]["requests"][resource]) for container in containers)


def test_the_resources_are_above_what_was_measured(manifests: Manifests) -> None:
    measured = _measured("run1", "t2.medium")
    server = manifests.containers["server"]["resources"]
    assert quantity(server["requests"]["memory"]) > max(row["MiB"] for row in measured) * MIB
    assert server["requests"]["memory"] == server["limits"]["memory"]
    cpus = quantity(server["limits"]["cpu"])
    assert cpus >= max(row["CPU"] for row in measured) / 100
    assert cpus.is_integer(), "the engine has whole threads"
    for container in manifests.containers.values():
        assert "memory" in container["resources"]["limits"]


def _section(checkpoint: str, box: str) -> str:
    """Of docs/load.md: what was measured of the service."""
    page = (ROOT / "docs/load.md").read_text()
    return page.partition(f"\n### Pokegen, {checkpoint} on {box}\n")[2].partition("\n### ")[0]


def _measured(checkpoint: str, box: str) -> list[dict[str, float]]:
    """Throughput, memory and CPU (percent of one), a row a number of readers."""
    [table] = re.findall(
        r"^(\| readers \| episodes/min \|.*\n(?:\|.*\n)+)", _section(checkpoint, box), re.MULTILINE
    )
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    return [dict(zip(head, (float(re.sub("[,%]", "", cell)) for cell in row), strict=True)) for row in rows]


def test_what_is_said_of_the_measurement_is_what_was_measured() -> None:
    cpu = {int(row["readers"]): f"{row['CPU']:.0f}%" for row in _measured("run1", "t2.medium")}
    most = {
        checkpoint: max(_measured(checkpoint, "t2.medium"), key=lambda row: row["MiB"])
        for checkpoint in ("run1", "124M")
    }
    [knee] = re.findall(r"^The knee: (\d+) readers", _section("run1", "t2.medium-spent"), re.MULTILINE)
    said = {
        "base/deployment.yaml": f"{cpu[500]} of a CPU with 500 readers, and {most['run1']['MiB']:.0f} MiB at most,"
        f" with {most['run1']['readers']:.0f}.",
        "overlays/crowd/autoscaler.yaml": f"{cpu[64]} of a CPU with 64 readers, and {cpu[500]} with 500",
        "overlays/one-node/deployment.yaml": f"With 0.4 CPUs, {knee} readers were served",
        "../../docs/kubernetes.md": f"124M parameters took {most['124M']['MiB']:.0f} MiB at most, with"
        f" {most['124M']['readers']:.0f} readers",
    }
    for name, sentence in said.items():
        assert sentence in _words(SOURCE / name), name


@pytest.mark.parametrize(
    ("checkpoint", "page", "sentence"),
    [
        ("run1", "base/deployment.yaml", "at once, {} texts fit that fill the context of {} tokens"),
        ("124M", "../../docs/kubernetes.md", "with 1 GiB, {} texts of the whole context fit"),
    ],
)
def test_what_is_said_of_the_memory_limit_is_what_the_engine_makes_of_it(
    checkpoint: str, page: str, sentence: str, manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = int(quantity(manifests.containers["server"]["resources"]["limits"]["memory"]))
    monkeypatch.setattr("server.engine.memory_limit", lambda: limit)
    sizes = _sizes(checkpoint)
    plan = plan_memory(sizes, "int8", Settings.model_fields["max_running"].default)
    assert sentence.format(plan.n_blocks // blocks_for(sizes.n_ctx), sizes.n_ctx) in _words(SOURCE / page)


def _sizes(checkpoint: str) -> HParams:
    if checkpoint in SHAPES:
        return SHAPES[checkpoint]
    with open_checkpoint(ROOT / "checkpoint" / checkpoint) as found:
        return found.hparams


def _words(page: Path) -> str:
    """The page on one line, comments as if they were none."""
    return " ".join(page.read_text().replace("#", "").split())


def test_on_one_node_the_old_and_the_new_pod_fit_together(one_node: Manifests) -> None:
    """On a t2.medium, beside what a cluster's own pods ask for."""
    assert one_node.one("Deployment")["spec"]["replicas"] == 1
    assert one_node.all("HorizontalPodAutoscaler") == []
    assert 2 * _asked_for(one_node, "cpu") < 1.5
    assert 2 * _asked_for(one_node, "memory") < 3 * 1024 * MIB


def test_the_autoscaler_has_the_deployment_to_itself(crowd: Manifests) -> None:
    autoscaler = crowd.one("HorizontalPodAutoscaler")["spec"]
    deployment = crowd.one("Deployment")
    assert autoscaler["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert 1 < autoscaler["minReplicas"] < autoscaler["maxReplicas"]


def _autoscaler_targets(crowd: Manifests) -> dict[str, float]:
    """At how much of each metric, in the mean of all pods, there are as many pods as are needed."""
    metrics = crowd.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    return {
        metric["pods"]["metric"]["name"]: quantity(metric["pods"]["target"]["averageValue"])
        for metric in metrics
    }


def test_the_autoscaler_follows_the_queue_and_the_busy_share(crowd: Manifests) -> None:
    """By metrics that prometheus-adapter makes of those that the service has."""
    targets = _autoscaler_targets(crowd)
    rules = {rule["name"]["as"]: rule for rule in yaml.safe_load(ADAPTER_RULES.read_text())["rules"]}
    assert targets.keys() == rules.keys() == {"pokegen_busy_share", "pokegen_samples_waiting"}
    assert 0 < targets["pokegen_samples_waiting"] < Settings.model_fields["max_waiting"].default
    for rule in rules.values():
        asked = set(re.findall(r"pokegen_\w+", rule["metricsQuery"] + rule["seriesQuery"]))
        assert asked <= _metrics_of_the_service()


def _metrics_of_the_service() -> set[str]:
    statistics = Statistics(0, 0, 1, 1, 1, 0.0, 0.0, 0, 0, {"stop": 0}, 0)
    current = SimpleNamespace(model="", fingerprint="")
    idle = SimpleNamespace(statistics=lambda: statistics, current=current, replaced=0, refused=0)
    return {family.name for family in EngineCollector(cast(Serving, idle)).collect()}


@pytest.mark.parametrize(("checkpoint", "half_full", "full"), [("run1", 256, 500), ("124M", 64, 128)])
def test_the_autoscalers_busy_share_is_between_that_of_a_half_full_and_of_a_full_service(
    crowd: Manifests, checkpoint: str, half_full: int, full: int
) -> None:
    """Or it would never add a pod, or always. By measured speeds, and by more than the tenth that HPA lets pass."""
    speed = {row["readers"]: row["tok/s"] for row in _measured(checkpoint, "t2.medium")}
    pace, most = (float(Settings.model_fields[name].default) for name in ("pace", "max_running"))
    target = _autoscaler_targets(crowd)["pokegen_busy_share"]

    def busy(readers: int) -> float:
        """Of the samples that may run at this speed, each reader has one."""
        return readers / min(speed[readers] / pace, most)

    assert busy(half_full) < 0.9 * target
    assert 1.1 * target < busy(full)
