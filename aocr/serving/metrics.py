"""What `GET /metrics` tells, in the format of Prometheus."""

from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self.requests = Counter("aocr_requests", "Requests by method and status code", ["method", "code"],
                                registry=self._registry)
        self.seconds = Histogram("aocr_request_seconds", "Seconds from the head of a request to its answer", ["method"],
                                 buckets=SECONDS, registry=self._registry)
        self.batch = Histogram("aocr_batch_images", "Images in a run of the graph", buckets=IMAGES,
                               registry=self._registry)
        self._waiting = Gauge("aocr_queue_images", "Images that wait for a run", registry=self._registry)
        self._load = Gauge("aocr_images_in_progress", "Images that wait, are prepared or are read",
                           registry=self._registry)
        self._version = Gauge("aocr_model_version", "The version that answers", registry=self._registry)
        self._loads = Counter("aocr_model_loads", "Versions that were loaded, or failed to", ["result"],
                              registry=self._registry)

    def watch_queue(self, waiting: Callable[[], float], load: Callable[[], float]) -> None:
        """Tells how many images wait, and how many are in progress."""
        self._waiting.set_function(waiting)
        self._load.set_function(load)

    def loaded(self, version: int | None) -> None:
        """Counts a version that was loaded, or one that could not be (None)."""
        self._loads.labels("ok" if version is not None else "failed").inc()
        if version is not None:
            self._version.set(version)

    def text(self) -> bytes:
        """Returns the metrics."""
        return generate_latest(self._registry)
