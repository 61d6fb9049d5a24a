"""`dialgate log replay`: re-evaluation of recorded decisions, under the law in force at the time or under a draft."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
import yaml

from dialgate.audit import replay as replaying
from dialgate.audit.replay import Replay
from dialgate.core.law import Law, parse_law
from dialgate.core.law_sections import LawError
from dialgate.core.model import OutcomeRecord
from dialgate.decision_log import span
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import LogSpan
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.decisions import open_chains, open_keys, read_span
from dialgate.interfaces.cli.instants import Since, Until
from dialgate.interfaces.cli.log_group import log_app
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, ConfigPath, Failure, load_config
from dialgate.runtime.terminal import MISUSE, Bars, bars, show_table, utc

_EVERY = 2_000  # records between updates of the progress bar
_SHOWN = 20

First: TypeAlias = Annotated[int, typer.Option(metavar="SEQ", min=1, help="First log entry to read.")]
Last: TypeAlias = Annotated[int | None, typer.Option(metavar="SEQ", min=1, help="Last log entry to read.")]


def _as_builtins(report: Replay) -> dict[str, object]:
    return {
        "same": not report.different,
        "records": report.records,
        "different": report.different,
        "beside": report.beside,
        "verdicts": [
            {"was": was, "becomes": becomes, "records": count}
            for (was, becomes), count in report.verdicts.most_common()
        ],
        "changes": [{**row._asdict(), "records": count} for row, count in report.rows.most_common()],
        "examples": [
            {
                **{name: getattr(example, name) for name in ("decision", "campaign", "was", "becomes")},
                "at": utc(example.at),
                "changes": [change._asdict() for change in example.changes],
            }
            for example in report.examples
        ],
    }


def _show_replay(replayed: tuple[Replay, bool]) -> None:
    report, draft = replayed
    same = report.records - report.different - report.beside
    typer.echo(f"{report.records:,} decisions, {same:,} the same, {report.different:,} different")
    if report.beside:
        typer.echo(f"{report.beside:,} decisions were skipped, because the draft is for another country")
    if not report.different:
        return
    verdicts = [(was, becomes, count) for (was, becomes), count in report.verdicts.most_common()]
    show_table("Verdicts", ("was", "would be" if draft else "is now", "decisions"), verdicts)
    rows = [(*row, count) for row, count in report.rows.most_common()]
    show_table("By campaign and rule", ("campaign", "rule", "was", "becomes", "decisions"), rows)
    examples = [
        (example.decision, utc(example.at), example.was, example.becomes)
        for example in report.examples[:_SHOWN]
    ]
    show_table(
        f"The first {len(examples)}" if report.different > len(examples) else "Decisions that differ",
        ("decision", "at (UTC)", "was", "becomes"),
        examples,
    )


@log_app.command("replay")
@command(
    _show_replay,
    data=lambda replayed: _as_builtins(replayed[0]),
    ok=lambda replayed: not replayed[0].different,
)
def log_replay(
    *,
    decision: Annotated[
        str, typer.Argument(help="Only this decision: its ID, or its record number in the log. Default: all.")
    ] = "",
    first: First = 1,
    last: Last = None,
    since: Since = "",
    until: Until = "",
    law: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Draft country file, to use instead of the law that applied on the day of the decision.",
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> tuple[Replay, bool]:
    """Evaluate recorded decisions again, under the law in force at the time, and compare the results.

    The evaluation uses the recorded facts. Without --law, every difference counts, even in wording or validity.

    With --law, show what a draft country file would change, by campaign and rule. If the draft requires a registry
    that was not required at the time, the result is a denial, because the registry was not consulted.

    Exit 0: all results match the log. 1: some results differ.

    dialgate log replay --since 2026-11-01T00:00:00+01:00 --law draft.yaml
    """
    loaded = load_config(config)
    chains = open_chains(loaded)
    readers = list(chains.readers.values())
    chosen = read_span(since, until, first, last)
    if decision:
        readers, chosen = one_decision(readers, open_keys(loaded).ids.inside(decision))
    law_of = (
        replaying.draft(_draft(law))
        if law
        else replaying.as_recorded(*(home.folder / "kept" for home in chains.homes))
    )
    compare = replaying.in_effect if law else replaying.exact
    with bars() as bar:
        entries = chain.from_iterable(read_entries(bar, reader, chosen) for reader in readers)
        return replaying.replay(entries, law_of, compare), law is not None


def one_decision(readers: list[Reader], decision: str) -> tuple[list[Reader], LogSpan]:
    """Return the log that contains a decision, and the decision's position in that log.

    `decision` is a decision ID, or the number of a record in the log.
    """
    seq = span.sequence(decision)
    for reader in readers:
        record = reader.find(seq) if seq is not None else None
        if isinstance(record, Record) and decision in {str(seq), record.id}:
            return [reader], LogSpan(first=record.seq, last=record.seq)
    raise Failure(
        "decision.unknown",
        "No decision has this ID or record number. `dialgate log search` lists the decisions.",
        field="decision",
    )


def _draft(path: Path) -> Law:
    try:
        return parse_law(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader))
    except (LawError, yaml.YAMLError, ValueError) as error:
        raise Failure(
            "law.invalid", f"{path} is not a valid country file: {error}", field="law", status=MISUSE
        ) from None


def read_entries(bar: Bars, reader: Reader, chosen: LogSpan) -> Iterator[Record | OutcomeRecord]:
    at, end = span.begin(reader, chosen), min(reader.segments.end(), chosen.last + 1)
    advance = bar("replaying", max(end - at, 1))
    for number, (line, entry) in enumerate(span.within(reader, chosen)):
        if not number % _EVERY:
            advance(line.seq - at)
            at = line.seq
        yield entry
