"""Figures of a service for Prometheus, in a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector

from regard.serving.limits import Admission

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Monitoring:
    """The figures.

    Args:
        model: Name of the model.
        task: Its task.
        outputs: Requests that are answered now.
        explanations: Explanations that wait or are computed.
    """

    content_type = CONTENT_TYPE_LATEST

    def __init__(
        self, *, model: str, task: str, outputs: Admission, explanations: Admission
    ) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        info = Gauge("regard_model_info", "The model.", ["model", "task"], registry=registry)
        info.labels(model, task).set(1)
        in_progress = Gauge(
            "regard_requests_in_progress",
            "Requests that are answered now.",
            ["kind"],
            registry=registry,
        )
        in_progress.labels("outputs").set_function(lambda: outputs.num_admitted)
        in_progress.labels("explanations").set_function(lambda: explanations.num_admitted)
        self._requests = Counter(
            "regard_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "regard_request_seconds",
            "Seconds from a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._inputs = Counter(
            "regard_inputs", "Texts, files and series that were computed.", registry=registry
        )
        self._characters = Counter(
            "regard_input_characters", "Characters of these texts.", registry=registry
        )

    def count_inputs(self, num_inputs: int, num_characters: int) -> None:
        """Count what was computed for a request."""
        self._inputs.inc(num_inputs)
        self._characters.inc(num_characters)

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            path: The route that it took; one label for all that take none.
            status: The status of its answer.
            seconds: How long that took.
        """
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self._registry)
