"""`remine triplets`: what was mined."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remine.flows.cli.options import ConfigOption, RoundOption, StoreOption, VersionOption, opened

if TYPE_CHECKING:
    from remine.flows.query.triplets import TripletTable

app = typer.Typer(
    help="Inspect and export mined triplets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RowsOption = Annotated[int, typer.Option("-n", help="How many.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", help="Only hard, semi_hard or easy ones; may be repeated."),
]
LabelOption = Annotated[str | None, typer.Option("--label", help="Only anchors with this label.")]


@app.command()
def head(
    rows: RowsOption = 10,
    round_: RoundOption = -1,
    kind: KindOption = None,
    label: LabelOption = None,
    sort: Annotated[
        str, typer.Option(help="anchor (as they lie), d_ap, d_an, margin or negative_rank.")
    ] = "anchor",
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
    *,
    descending: Annotated[bool, typer.Option("--descending", help="Largest first.")] = False,
) -> None:
    """The first triplets, with their labels."""
    from remine.flows.query.terminal import print_triplets
    from remine.flows.query.triplets import TripletQuery

    query = TripletQuery(
        round=round_,
        kinds=tuple(kind or ()),
        label=label,
        sort=sort,
        descending=descending,
        limit=rows,
    )
    print_triplets(_triplet_table(store, config, number), query)


@app.command()
def counts(
    config: ConfigOption = None, store: StoreOption = None, number: VersionOption = 0
) -> None:
    """Count pairs and triplets by round and kind."""
    from remine.flows.query.terminal import print_counts

    _, version = opened(store, config, number)
    print_counts(version)


@app.command()
def histogram(
    column: Annotated[
        str, typer.Argument(help="d_ap, d_an, margin (d_an - d_ap) or negative_rank.")
    ] = "d_an",
    round_: RoundOption = -1,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
) -> None:
    """The distribution of a column, by kind."""
    from remine.flows.query.terminal import print_histogram

    print_histogram(_triplet_table(store, config, number), round_, column)


@app.command()
def stats(
    top: Annotated[int, typer.Option(help="How many hubs and confused classes.")] = 10,
    round_: RoundOption = -1,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """Kinds, distances, hub negatives and confused classes of a round."""
    from remine.flows.query.terminal import print_stats
    from remine.flows.query.triplet_stats import stats as of_round

    statistics = of_round(_triplet_table(store, config, number), round_, top)
    typer.echo(json.dumps(statistics)) if as_json else print_stats(statistics)


@app.command()
def show(
    item: Annotated[str, typer.Argument(help="The id of an item.")],
    rows: RowsOption = 20,
    round_: RoundOption = -1,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
) -> None:
    """The triplets that an item is in, as anchor, positive or negative."""
    from remine.flows.query.terminal import print_item

    print_item(_triplet_table(store, config, number), round_, item, rows)


@app.command()
def compare(
    first: Annotated[int, typer.Argument(help="A round.")],
    second: Annotated[int, typer.Argument(help="Another.")],
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
    *,
    as_json: JsonOption = False,
) -> None:
    """What changed from one round to another."""
    from remine.flows.query.terminal import print_comparison
    from remine.flows.query.triplet_stats import compare as of_rounds

    comparison = of_rounds(_triplet_table(store, config, number), first, second)
    typer.echo(json.dumps(comparison)) if as_json else print_comparison(comparison)


@app.command()
def export(
    out: Annotated[
        Path, typer.Argument(help="A file that ends in .parquet, .csv, .jsonl, .npz or .npy.")
    ],
    layout: Annotated[
        str,
        typer.Option(
            help="plain: the columns and labels. triplet, n-tuple: texts or pictures, as"
            " sentence-transformers trains on. indices: for pytorch-metric-learning."
        ),
    ] = "plain",
    negatives: Annotated[int, typer.Option(help="Negatives per n-tuple.")] = 5,
    round_: RoundOption = -1,
    kind: KindOption = None,
    label: LabelOption = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: VersionOption = 0,
) -> None:
    """Write a round's triplets for another program."""
    from remine.flows.query.triplet_export import export as write
    from remine.flows.query.triplets import TripletQuery

    query = TripletQuery(round=round_, kinds=tuple(kind or ()), label=label)
    count = write(_triplet_table(store, config, number), query, layout, out, negatives)
    typer.echo(f"wrote {out}: {count:,} rows")


def _triplet_table(store: str | None, config: Path | None, number: int) -> "TripletTable":
    from remine.flows.query.triplets import TripletTable

    return TripletTable(*opened(store, config, number))
