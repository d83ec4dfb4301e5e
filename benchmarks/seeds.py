"""The demo's retrieval on unseen characters before and after three rounds, over three seeds."""

import statistics

from benchmarks.common import fresh_run, show
from remine.flows.cycle.cycle import run_cycle
from remine.flows.report.rounds_table import round_rows

SEEDS = (0, 1, 2)


def main() -> None:
    """Three full demo cycles."""
    seed_rows = []
    for seed in SEEDS:
        with fresh_run(f"run.seed={seed}") as (run, _, prepared_run):
            seed_rows.append(round_rows(run_cycle(run, *prepared_run)))
    rows: list[list[str]] = [["rounds trained", *(f"seed {s}" for s in SEEDS), "mean", "spread"]]
    for number in range(len(seed_rows[0])):
        values = [100 * rounds[number]["recall@1"] for rounds in seed_rows]
        rows.append(
            [
                str(number),
                *(f"{value:.1f}" for value in values),
                f"{statistics.mean(values):.1f}",
                f"{min(values):.1f} to {max(values):.1f}",
            ]
        )
    show("R@1 on unseen characters, %", rows)


if __name__ == "__main__":
    main()
