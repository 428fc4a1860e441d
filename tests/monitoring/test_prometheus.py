"""A real Prometheus asks the real service: every query of the dashboard has an answer, every alert its moment."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.service.stack import Stack, direct_session, free_ports, running, wait_until

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy/monitoring"
TEXT = "/generate?length=40&temperature=0&whole_sentences=false"
READERS = 6


class Prometheus:
    """Asks every half second whoever the targets are. quicken: alerts fire after seconds instead of minutes."""

    def __init__(self, directory: Path, *targets: str, quicken: bool = False) -> None:
        rules = (MONITORING / "alerts.yml").read_text()
        if quicken:
            rules = rules.replace("for: 1m", "for: 1s").replace("waiting[1m]", "waiting[3s]")
        (directory / "alerts.yml").write_text(rules)
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        [scrape] = config["scrape_configs"]
        del scrape["dns_sd_configs"]  # there is no Docker to ask
        scrape["static_configs"] = [{"targets": [target.removeprefix("http://") for target in targets]}]
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._directory = directory
        self._session = direct_session()
        self._command = [
            "prometheus",
            f"--config.file={directory}/prometheus.yml",
            f"--storage.tsdb.path={directory}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    @contextmanager
    def running(self) -> Iterator["Prometheus"]:
        with (self._directory / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(self._command, stdout=log, stderr=log)
            try:
                wait_until(self._is_ready, within=30, what="Prometheus")
                yield self
            finally:
                process.terminate()
                process.wait(20)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Its answer. AssertionError with what it says is wrong."""
        response = self._session.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=20)
        answer = response.json()
        assert answer["status"] == "success", f"{expression}: {answer.get('error')}"
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        answer = self._session.get(f"{self.url}/api/v1/alerts", timeout=20).json()
        return {
            alert["labels"]["alertname"] for alert in answer["data"]["alerts"] if alert["state"] == "firing"
        }

    def _is_ready(self) -> bool:
        try:
            return self._session.get(f"{self.url}/-/ready", timeout=5).status_code == 200
        except OSError:
            return False


@contextmanager
def readers(url: str, how_many: int) -> Iterator[None]:
    """So many, one text after the other."""
    ends = False

    def read() -> None:
        with direct_session() as session:
            while not ends:
                session.get(url + TEXT, timeout=60)

    with ThreadPoolExecutor(how_many) as pool:
        asked = [pool.submit(read) for _ in range(how_many)]
        try:
            yield
        finally:
            ends = True
        for each in asked:
            each.result()


@pytest.fixture
def make_stack(checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    stacks = []

    def make(**variables: str) -> Stack:
        common = {"POKEGEN_CHECKPOINT": str(checkpoint), "POKEGEN_ENGINE": "numpy"}
        stack = Stack(tmp_path / "log", common | variables)
        entered = running(stack)
        entered.__enter__()
        stacks.append(entered)
        return stack

    yield make
    for entered in stacks:
        entered.__exit__(None, None, None)


def queries() -> list[str]:
    panels = json.loads((MONITORING / "grafana/dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def test_every_query_of_the_dashboard_is_answered_under_load(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    stack = make_stack()
    with Prometheus(tmp_path, stack.http).running() as prometheus, readers(stack.url, READERS):
        wait_until(
            lambda: bool(prometheus.query("rate(pokegen_text_seconds_count[5m]) > 0")),
            within=60,
            what="texts",
        )
        unanswered = queries()

        def all_are_answered() -> bool:  # a rate is of two samples, and some series begin with the first text
            unanswered[:] = [query for query in unanswered if not prometheus.query(query)]
            return not unanswered

        with suppress(AssertionError):
            wait_until(all_are_answered, within=20, what="answers")
        assert not unanswered
        [late] = prometheus.query(
            "histogram_quantile(0.95, sum by (le) (rate(pokegen_first_token_seconds_bucket[5m])))"
        )
        assert 0 < float(late["value"][1]) <= 60
        [ok] = prometheus.query('sum(pokegen_http_requests_total{status="200",path="/generate"})')
        assert float(ok["value"][1]) > 0
        assert prometheus.firing() <= {"PokegenQueueStands"}


def test_the_alert_fires_while_the_queue_stands_and_ends_with_it(
    make_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    stack = make_stack(POKEGEN_MAX_RUNNING="1", POKEGEN_MAX_SAMPLES="1", POKEGEN_MAX_WAIT="60")
    with Prometheus(tmp_path, stack.http, quicken=True).running() as prometheus:
        wait_until(
            lambda: bool(prometheus.query('up{job="pokegen"} == 1')) and not prometheus.firing(),
            within=30,
            what="the first answer",
        )
        with readers(stack.url, READERS):
            wait_until(lambda: "PokegenQueueStands" in prometheus.firing(), within=60, what="the alert")
        wait_until(lambda: not prometheus.firing(), within=60, what="its end")


@pytest.mark.parametrize(
    "targets", [["127.0.0.1:9"], []], ids=["it-does-not-answer", "its-name-is-forgotten"]
)
def test_the_alert_fires_when_the_service_is_gone(tmp_path: Path, targets: list[str]) -> None:
    with Prometheus(tmp_path, *targets, quicken=True).running() as prometheus:
        wait_until(lambda: prometheus.firing() == {"PokegenIsDown"}, within=30, what="the alert")


def test_the_alert_fires_when_a_process_has_died(make_stack: Callable[..., Stack], tmp_path: Path) -> None:
    stack = make_stack()
    with Prometheus(tmp_path, stack.http).running() as prometheus:
        wait_until(
            lambda: bool(prometheus.query("process_start_time_seconds")), within=30, what="the first answer"
        )
        [worker] = stack.workers("uwsgi")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: prometheus.firing() == {"PokegenStartedAnew"}, within=60, what="the alert")


def test_the_alert_fires_when_a_single_request_fails(
    make_stack: Callable[..., Stack], checkpoint: Path, tmp_path: Path
) -> None:
    """Of a path that nobody has asked for before: /model, whose card is damaged."""
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    (damaged / "card.json").write_text("{")
    stack = make_stack(POKEGEN_CHECKPOINT=str(damaged))
    with Prometheus(tmp_path, stack.http, quicken=True).running() as prometheus:
        wait_until(lambda: bool(prometheus.query("pokegen_model_info")), within=30, what="the first answer")
        assert stack.get("/model").status_code == 500
        wait_until(lambda: prometheus.firing() == {"PokegenFails"}, within=60, what="the alert")


def test_alerts_fire_when_they_should_and_not_before() -> None:
    """By Prometheus' own tool, over minutes that take no time."""
    checked = subprocess.run(
        ["promtool", "check", "config", MONITORING / "prometheus.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    tested = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    names = {
        rule["alert"]
        for rule in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
    }
    cases = yaml.safe_load((Path(__file__).parent / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in cases for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == names, "every alert is seen to fire"
