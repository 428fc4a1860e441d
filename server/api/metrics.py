"""GET /metrics: what the service does, for Prometheus. nginx does not pass it on: it is the operator's.

The format is https://prometheus.io/docs/instrumenting/exposition_formats; the names follow its conventions.
"""

import math
from collections.abc import Iterator

from flask import Flask, Response, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from server.engine import Generation
from server.serving import Serving

# Seconds. Their upper bounds have those that promises are made of: a second to the first token, 8 tokens a second.
FIRST_TOKEN = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0)
TOKEN = (0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0)
TEXT = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)

_NONE_OF_OURS = "none of ours"  # the path of requests for addresses that do not exist


class Texts:
    """Counts texts that have ended: what was read and written, and how long it took. Safe to use from every thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._prompt_tokens = Counter(
            "pokegen_prompt_tokens", "Tokens of the prompts of texts that have begun", registry=self.registry
        )
        self._waiting = self._histogram("queue", "From the request to its turn", FIRST_TOKEN)
        self._first_token = self._histogram("first_token", "From the request to its first token", FIRST_TOKEN)
        self._token = self._histogram("token", "From one token to the next, in the mean of a text", TOKEN)
        self._text = self._histogram("text", "From the request to the end of its text", TEXT)

    def _histogram(self, name: str, meaning: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"pokegen_{name}_seconds", meaning, buckets=buckets, registry=self.registry)

    def count(self, generation: Generation) -> None:
        """One has ended; of one that never began nothing is known."""
        timing = generation.timing
        if timing.started == math.inf:
            return
        self._prompt_tokens.inc(generation.prompt_tokens)
        self._waiting.observe(timing.started - timing.submitted)
        if timing.first_token == math.inf:
            return
        self._first_token.observe(timing.first_token - timing.submitted)
        if timing.finished == math.inf:  # it failed
            return
        self._text.observe(timing.finished - timing.submitted)
        longest = max(len(sample.tokens) for sample in generation.samples)
        if longest > 1:
            self._token.observe((timing.finished - timing.first_token) / (longest - 1))


class EngineCollector(Collector):
    """Asks the engine for its statistics at each scrape, so that between scrapes nothing is counted twice."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterator[Metric]:
        """A family a figure."""
        now = self._serving.statistics()
        gauges = {
            "samples_running": ("Samples that are being generated", now.running),
            "samples_waiting": ("Samples that wait for their turn", now.waiting),
            "batch_limit": ("Samples that may run at present, so that each keeps its pace", now.batch_limit),
            "kv_blocks_free": ("Blocks of the key/value cache that nobody owns", now.free_blocks),
            "kv_blocks": ("Blocks of the key/value cache", now.total_blocks),
            "step_seconds": ("How long the last steps took, in the mean", now.step_seconds),
            "tokens_per_second": ("How fast all texts together grow", now.tokens_per_second),
        }
        counters = {
            "steps": ("Steps computed", now.steps),
            "tokens": ("Tokens drawn", now.tokens),
            "reloads": ("Checkpoints that took another's place", self._serving.replaced),
            "reloads_refused": ("Checkpoints that could not", self._serving.refused),
            "requests_refused": (
                "Submissions that found no room, or would have waited for too long",
                now.refused,
            ),
        }
        for name, (meaning, value) in gauges.items():
            yield GaugeMetricFamily(f"pokegen_{name}", meaning, value)
        for name, (meaning, value) in counters.items():
            yield CounterMetricFamily(f"pokegen_{name}", meaning, value)
        ended = CounterMetricFamily(
            "pokegen_samples_ended", "Samples that ended, by reason", labels=["reason"]
        )
        for reason, count in now.ended.items():
            ended.add_metric([reason], count)
        yield ended
        served = self._serving.current
        about = {"model": served.model, "fingerprint": served.fingerprint}
        yield InfoMetricFamily("pokegen_model", "What answers", about)


def register(app: Flask, texts: Texts) -> None:
    """Answer /metrics, and count requests."""
    registry = texts.registry
    registry.register(EngineCollector(app.extensions["serving"]))
    ProcessCollector(registry=registry)
    requests = Counter(
        "pokegen_http_requests",
        "Requests answered, by address and status",
        ["path", "status"],
        registry=registry,
    )

    @app.after_request
    def count(response: Response) -> Response:
        path = request.url_rule.rule if request.url_rule else _NONE_OF_OURS
        requests.labels(path, str(response.status_code)).inc()
        return response

    @app.get("/metrics", doc_ui=False)
    def metrics() -> Response:
        for path in [_NONE_OF_OURS, *(rule.rule for rule in app.url_map.iter_rules())]:
            requests.labels(path, "500")  # with 0, or Prometheus would not see the first as an increase
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
