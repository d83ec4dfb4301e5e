"""`remine search`: what is nearest."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from remine.data.errors import InputError
from remine.flows.cli.options import ConfigOption, ServedOption, StoreOption, base_of, opened_served

if TYPE_CHECKING:
    from remine.flows.query.questions import Question
    from remine.flows.query.rejection import Rejection
    from remine.flows.query.snapshot import Answers, Queries, SearchOptions, Snapshot

Labels = Annotated[
    list[str] | None, typer.Option("--label", help="Only items of this label; may be repeated.")
]
Splits = Annotated[
    list[str] | None, typer.Option("--split", help="Only items of train, val, test or unknown.")
]
Groups = Annotated[
    list[str] | None, typer.Option("--group", help="Only items of this group; may be repeated.")
]


def search(
    *,
    item: Annotated[str | None, typer.Option("--id", help="Neighbours of this item.")] = None,
    vector: Annotated[
        Path | None, typer.Option(help="Neighbours of the vectors in this .npy, (d,) or (q, d).")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Neighbours of this picture.")] = None,
    text: Annotated[str | None, typer.Option(help="Neighbours of this text.")] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="Queries: Parquet or CSV with a column id, text, path, image or vector; or .npy."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of neighbours.")] = 10,
    recall: Annotated[
        float | None,
        typer.Option(help="Desired share of the exact nearest; default: what the index is set to."),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(
            help="Mark queries as unknown whose nearest item is too far; the share of queries of"
            " known classes that may be, such as 0.05."
        ),
    ] = None,
    label: Labels = None,
    split: Splits = None,
    group: Groups = None,
    out: Annotated[
        Path | None, typer.Option(help="Write .parquet, .json or .html instead of a table.")
    ] = None,
    config: ConfigOption = None,
    store: StoreOption = None,
    number: ServedOption = 0,
    itself: Annotated[
        bool, typer.Option("--itself", help="Keep an item among its own neighbours.")
    ] = False,
    distinct: Annotated[
        bool,
        typer.Option("--distinct", help="Leave out exact duplicates of the query or a nearer one."),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what was searched, on stderr.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search the nearest neighbours.

    In the served version, also while a cycle runs.
    """
    from remine.flows.query.answers import check_output_path, print_answers, write_answers
    from remine.flows.query.questions import Question
    from remine.flows.query.rejection import Rejection
    from remine.flows.query.snapshot import Filter, SearchOptions, Snapshot

    among = Filter(labels=tuple(label or ()), splits=tuple(split or ()), groups=tuple(group or ()))
    root, version = opened_served(store, config, number)
    question = Question(
        item=item, vector=vector, image=image, text=text, file=queries, itself=itself
    )
    wish = SearchOptions(k=k, recall=recall, item_filter=among, distinct=distinct, explain=explain)
    check_output_path(out)
    if out and as_json:
        raise InputError("give one of --out and --json")
    if itself and reject is not None:
        raise InputError("give one of --itself and --reject: an item is at no distance to itself")
    rejection = None if reject is None else Rejection.of(version, reject)
    snapshot = Snapshot(root, version, base_of(config))
    pairs = _asked(snapshot, question, wish, rejection)
    if out:
        count = write_answers(snapshot, pairs, out, rejection)
        typer.echo(f"wrote {out}: the neighbours of {count:,} queries in version {version.number}")
    else:
        print_answers(snapshot, pairs, as_json=as_json, rejection=rejection)


def _asked(
    snapshot: "Snapshot",
    question: "Question",
    wish: "SearchOptions",
    rejection: "Rejection | None",
) -> "Iterator[tuple[Queries, Answers]]":
    """Queries and answers block by block; says at the end what was searched, and what was cut."""
    from remine.data.items.inputs import Omissions
    from remine.flows.query.questions import queries_of
    from remine.index.search_report import merge_reports

    reports, omissions, queries_asked, unknown = [], [], 0, 0
    for queries in queries_of(snapshot, question):
        answers = snapshot.search(queries, wish)
        queries_asked += len(queries)
        unknown += int(answers.unknown(rejection.limit).sum()) if rejection else 0
        reports.append(answers.explanation)
        omissions.append(queries.omissions)
        yield queries, answers
    if not reports:
        return
    report = merge_reports(reports)
    if wish.explain:
        first, *lines = report.lines()
        typer.echo(f"version {snapshot.version.number}: {first}", err=True)
        for line in lines:
            typer.echo(f"  {line}", err=True)
    # Said in any case: the answers may be less exact, or slower, than the request expects.
    lines = [rejection.line(unknown, queries_asked, wish.item_filter)] if rejection else []
    for line in [*lines, *report.notices(), *Omissions.total(omissions).lines()]:
        typer.echo(f"  {line}", err=True)
