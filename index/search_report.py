"""What a search looked at, and how far its recall is known."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

LIMIT_QUANTILE = 0.99
"""Share of the held-out items that lie within the card's distance limit."""
UNLIKE_SHARE = 0.05
"""Share of queries beyond the limit that is worth a notice; 0.01 is expected of items."""


@dataclass(frozen=True, kw_only=True)
class RecallCheck:
    """Recall of a call's own queries, measured on a sample against exact search.

    Attributes:
        unlike: Whether these are the queries unlike the items, or the others.
        queries: How many there are.
        sampled: How many of them were measured.
        before: Recall at the setting that the index's card gives.
        setting: The setting at which they were searched instead, or the same.
        recall: Recall at `setting`.
    """

    unlike: bool
    queries: int
    sampled: int
    before: float
    setting: int
    recall: float


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """What a search looked at; the field names are the keys of its JSON.

    Attributes:
        factory, knob, setting: The index and the setting of its knob.
        wished: Requested recall of the k nearest.
        measured: Recall at this setting on the card's curve, which holds for queries like the
            items; None under a filter, for which there is no curve.
        visited: Share of the stored vectors in the visited lists, None if FAISS does not report it.
        kept: How many of `items` pass the filter.
        items: In the index.
        widened: Queries that found fewer than k and were searched again over all items.
        queries: Number of queries.
        unlike: Queries farther from the index than 99 % of the held-out items that measured its
            recall; None if the index stores no such limit.
        checks: Recall measured on these queries.
    """

    factory: str
    knob: str
    setting: int
    wished: float
    measured: float | None
    visited: float | None
    kept: int
    items: int
    widened: int
    queries: int
    unlike: int | None
    checks: tuple[RecallCheck, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For people."""
        setting_text = f", {self.knob} {self.setting}" if self.knob != "none" else ""
        share = "" if self.visited is None else f", {self.visited:.2%} of the vectors visited"
        lines = [
            f"index {self.factory}{setting_text}{share}",
            f"recall {self.wished:g} requested, {self._recall_text()}",
        ]
        if self.kept < self.items:
            lines.append(f"{self.kept:,} of {self.items:,} items match the filter")
        if self.widened:
            lines.append(
                f"{self.widened:,} queries found too few neighbours and searched all items"
            )
        lines += [self._check_text(check) for check in self.checks if not self._matters(check)]
        return lines

    def notices(self) -> list[str]:
        """One line for each group of queries for which the card's recall may not hold."""
        lines = [self._check_text(check) for check in self.checks if self._matters(check)]
        is_checked = any(check.unlike for check in self.checks)
        if not is_checked and (self.unlike or 0) > UNLIKE_SHARE * self.queries:
            lines.append(
                f"{self.unlike:,} of {self.queries:,} queries are unlike the items (farther from"
                f" the index than {LIMIT_QUANTILE:.0%} of held-out items): their recall is not"
                " known; request recall 1 to check them against exact search"
            )
        return lines

    def _recall_text(self) -> str:
        if self.factory == "Flat":
            return "exact: every vector is compared"
        if self.measured is None:
            return "not measured under a filter"
        return f"{self.measured:.4f} measured for queries like the items"

    def _matters(self, check: RecallCheck) -> bool:
        """Whether a check found what the card does not say."""
        return check.unlike or check.setting > self.setting

    def _check_text(self, check: RecallCheck) -> str:
        kind = "unlike" if check.unlike else "like"
        text = (
            f"{check.queries:,} of {self.queries:,} queries are {kind} the items: recall"
            f" {check.before:.4f} at {self.knob} {self.setting}, measured on {check.sampled:,} of"
            " them against exact search"
        )
        if check.setting > self.setting:
            text += f"; searched at {self.knob} {check.setting} instead, recall {check.recall:.4f}"
        if check.unlike and check.recall < self.wished:
            text += f", below the requested {self.wished:g}"
        return text


def merge_reports(reports: Sequence[SearchReport]) -> SearchReport:
    """The report of several searches with the same options as one."""
    if len(reports) == 1:
        return reports[0]
    unlike = [report.unlike for report in reports if report.unlike is not None]
    count = sum(report.queries for report in reports)
    visited = [(r.visited, r.queries) for r in reports if r.visited is not None]
    checks = [check for report in reports for check in report.checks]
    groups = [[c for c in checks if c.unlike == is_unlike] for is_unlike in (True, False)]
    return replace(
        reports[0],
        visited=sum(share * n for share, n in visited) / count if visited else None,
        widened=sum(report.widened for report in reports),
        queries=count,
        unlike=sum(unlike) if unlike else None,
        checks=tuple(_merge_checks(group) for group in groups if group),
    )


def _merge_checks(checks: Sequence[RecallCheck]) -> RecallCheck:
    """One check: the mean recall over the samples, and the largest setting."""
    sampled = sum(check.sampled for check in checks)
    return RecallCheck(
        unlike=checks[0].unlike,
        queries=sum(check.queries for check in checks),
        sampled=sampled,
        before=sum(check.before * check.sampled for check in checks) / sampled,
        setting=max(check.setting for check in checks),
        recall=sum(check.recall * check.sampled for check in checks) / sampled,
    )
