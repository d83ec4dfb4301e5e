"""Metrics in the text format of Prometheus."""

import threading
from collections import Counter
from collections.abc import Iterator

SECONDS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
QUERIES_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of values by upper bound, and the sum of the values."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Start empty; `bounds` are ascending."""
        self.bounds, self.counts = bounds, [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        place = next((i for i, b in enumerate(self.bounds) if value <= b), len(self.bounds))
        self.counts[place] += 1
        self.sum += value

    def lines(self, name: str, labels: str = "") -> Iterator[str]:
        """Yield the histogram in the text format, with cumulative counts as it requires."""
        total, comma = 0, "," if labels else ""
        for bound, count in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {total}'
        braces = f"{{{labels}}}" if labels else ""
        yield f"{name}_sum{braces} {self.sum:.6f}"
        yield f"{name}_count{braces} {total}"


class Counters:
    """All metrics of the server; thread-safe."""

    def __init__(self) -> None:
        """Start all metrics at zero."""
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.batches = Histogram(QUERIES_BOUNDS)
        self.changes = self.faults = 0
        self.waiting = self.version = 0

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a finished request."""
        with self._lock:
            self.requests[method, route, status] += 1
            self.seconds.setdefault(route, Histogram(SECONDS_BOUNDS)).add(seconds)

    def text(self) -> str:
        """All metrics in the text format."""
        with self._lock:
            return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# TYPE remine_requests_total counter"
        for (method, route, status), count in sorted(self.requests.items()):
            labels = f'method="{method}",route="{route}",status="{status}"'
            yield f"remine_requests_total{{{labels}}} {count}"
        yield "# TYPE remine_request_seconds histogram"
        for route, histogram in sorted(self.seconds.items()):
            yield from histogram.lines("remine_request_seconds", f'route="{route}"')
        yield "# HELP remine_search_queries Queries that one search of the index answered."
        yield "# TYPE remine_search_queries histogram"
        yield from self.batches.lines("remine_search_queries")
        for name, kind, value in (
            ("remine_version", "gauge", self.version),
            ("remine_requests_waiting", "gauge", self.waiting),
            ("remine_version_changes_total", "counter", self.changes),
            ("remine_version_faults_total", "counter", self.faults),
        ):
            yield f"# TYPE {name} {kind}"
            yield f"{name} {value}"
