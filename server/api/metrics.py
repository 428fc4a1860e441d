"""GET /metrics: what the engine does, for Prometheus. nginx does not pass it on: it is the operator's.

The format is https://prometheus.io/docs/instrumenting/exposition_formats; the names follow its conventions.
"""

from collections.abc import Iterator

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from server.serving import Serving


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


def register(app: Flask) -> None:
    """Answer /metrics."""
    registry = CollectorRegistry()
    registry.register(EngineCollector(app.extensions["serving"]))

    @app.get("/metrics", doc_ui=False)
    def metrics() -> Response:
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)
