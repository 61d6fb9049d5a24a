"""`dialgate why`, `log search` and `log replay`: explanation, search and replay of decisions.

They read the data folder, whether or not a gate is running.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, TypeVar

import typer
import yaml
from msgspec import structs

from dialgate.audit import explanation, number_history
from dialgate.audit import replay as replaying
from dialgate.audit import search as searching
from dialgate.audit.explanation import Account
from dialgate.audit.number_history import Inquiry, Visibility
from dialgate.audit.replay import Replay
from dialgate.audit.search import Hit, Query
from dialgate.cluster.decision_search import DecisionSearch, Missing
from dialgate.cluster.peer_questions import Decisions, FindDecisions
from dialgate.config import content_store
from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core.faults import Unavailable
from dialgate.core.law import Law, LawError, parse_law
from dialgate.core.model import OutcomeRecord
from dialgate.core.name_suggestions import choose
from dialgate.crypto.keys import Keys, KeysUnusable
from dialgate.decision_log import span
from dialgate.decision_log.chains import Chains
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.span import Span
from dialgate.interfaces.cli.config import log_app
from dialgate.interfaces.cli.instants import Since, Until, instant
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    Number,
    load_config,
    number_given,
    reporting,
)
from dialgate.interfaces.cli.subjects import Purpose, act, show_missing
from dialgate.runtime.terminal import MISUSE, NO, Bars, bars, console, show_json, show_table, utc
from dialgate.subjects.rights import Subjects
from dialgate.texts import Language

app = typer.Typer()
_EVERY = 2_000  # records between updates of the progress bar
_SHOWN = 20
_T = TypeVar("_T")

First: TypeAlias = Annotated[int, typer.Option(metavar="SEQ", min=1, help="First log entry to read.")]
Last: TypeAlias = Annotated[int | None, typer.Option(metavar="SEQ", min=1, help="Last log entry to read.")]
ControllerId: TypeAlias = Annotated[str, typer.Option(help="Only decisions of this controller.")]


# ---- why -------------------------------------------------------------------------------------------------------------


@app.command(name="why")
def why_number(
    *,
    number: Number,
    purpose: Purpose,
    language: Annotated[Language, typer.Option(help="Language of the explanations.")] = "en",
    since: Since = "",
    until: Until = "",
    controller: ControllerId = "",
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show all decisions about a number, newest first, with their reasons worded for the data subject.

    If gates share a store, the output includes the decisions of all of them.

    Exit 0: decisions were found. 1: none was found, or a gate could not be asked.

    dialgate why +390612345678 --purpose "letter of 24 November" --language it --since 2026-11-01T00:00:00+01:00
    """
    with reporting(as_json=as_json), _reading():
        loaded, within = load_config(config), _span(since, until)
        keys = _keys(loaded)
        names = {owner.id: owner.name for owner in loaded.controllers.values()}
        e164 = _number(number, controller, loaded)
        sees = Visibility(
            controllers=(controller,) if controller else None, since=within.since, until=within.until
        )
        question = FindDecisions(number=e164, sees=sees)

        async def own(look_up: Callable[[Inquiry], _T], /) -> _T:
            return look_up(Inquiry(loaded.data, keys))

        async def look_up(subjects: Subjects, client: Client) -> tuple[Decisions, Missing]:
            await subjects.record_lookup(client, controller, e164, "decisions", purpose)
            return await DecisionSearch(own, subjects.peers).about(question)

        decisions, missing = act(config, look_up)
        accounts = [
            structs.replace(
                explanation.account(found, language, names), caller_id=_caller_id(found.record, keys)
            )
            for found in decisions.found
        ]
    notices = explanation.notices(
        language, decisions.retired, missing, nothing=not accounts, dated=bool(since or until)
    )
    if as_json:
        show_json({"decisions": accounts, "retired_months": decisions.retired, "notices": notices, "language": language,
                   "missing": missing})  # fmt: skip
    else:
        _show_accounts(accounts, notices)
        show_missing(missing)
    raise typer.Exit(NO if missing or not accounts else 0)


def _caller_id(record: Record, keys: Keys) -> str:
    """Return the caller ID. An encrypted one, which is not the campaign's, is decrypted if these keys can."""
    if not record.caller_sealed:
        return record.caller_id
    with suppress(KeysUnusable):
        return keys.month(record.at).unseal(record.caller_sealed)
    return ""


def _show_accounts(accounts: list[Account], notices: list[str]) -> None:
    out = console()
    for account in accounts:
        out.print(f"{account.decision_id}  {account.at}", style="bold")
        out.print("\n".join(f"  {sentence}" for sentence in account.words) + "\n")
    for notice in notices:
        out.print(notice)


def _number(raw: str, controller: str, config: Config) -> str:
    """Return the number in E.164. One without a country code is read as of the controllers' country, if all have the same."""
    owners = [owner for owner in config.controllers.values() if controller in {"", owner.id}]
    if not owners:
        text = choose("Use one of the configured controllers", config.controllers)
        raise Failure("controller.unknown", text, field="controller")
    homes = {owner.country for owner in owners}
    try:
        return number_history.e164(raw, homes.pop() if len(homes) == 1 else "")
    except number_history.NumberUnreadable as problem:
        raise Failure(
            "number.invalid",
            f"The number {problem}. Write it in E.164: a plus, the country code and the number.",
            field="number",
            status=MISUSE,
        ) from None


# ---- search ----------------------------------------------------------------------------------------------------------


@log_app.command("search")
def log_search(
    *,
    since: Since = "",
    until: Until = "",
    campaign: Annotated[str, typer.Option(help="Only decisions of this campaign.")] = "",
    controller: ControllerId = "",
    verdict: Annotated[Literal["allow", "deny"] | None, typer.Option(help="Only this verdict.")] = None,
    code: Annotated[
        str,
        typer.Option(
            help="Only denials with this reason, as in registry.listed, or registry for all registry reasons."
        ),
    ] = "",
    client: Annotated[str, typer.Option(help="Only checks by this client.")] = "",
    number: Annotated[
        str,
        typer.Option(
            help="Only decisions about this number, newest first; - reads it from standard input.",
            callback=number_given,
        ),
    ] = "",
    purpose: Annotated[
        str, typer.Option(help="With --number: reason for the look-up, which is recorded.")
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, help="Most decisions to show, or 0 for all. --json shows all.")
    ] = 100,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all decisions as JSON, one per line.")
    ] = False,
) -> None:
    """Find decisions, oldest first, with the outcome of each call.

    Exit 0: decisions were found. 1: none was found.

    dialgate log search --since 2026-11-01T00:00:00+01:00 --verdict deny --code registry --json
    """
    with reporting(as_json=as_json), _reading():
        loaded = load_config(config)
        hashes = None
        if number:
            inquiry, e164 = Inquiry(loaded.data, _keys(loaded)), _number(number, controller, loaded)
            act(
                config,
                lambda subjects, client: subjects.record_lookup(
                    client, controller, e164, "decisions", purpose
                ),
            )
            hashes = inquiry.hashes(e164)
        query = Query(
            campaign=campaign,
            controller=controller,
            verdict=verdict or "",
            code=code,
            client=client,
            hashes=hashes,
        )
        hits = searching.search(_chains(loaded), query, _span(since, until))
        count = _print_json(hits) if as_json else _show_hits(hits, limit)
    raise typer.Exit(0 if count else NO)


def _print_json(hits: Iterable[Hit]) -> int:
    count = 0
    for hit in hits:
        show_json(hit)
        count += 1
    return count


def _show_hits(hits: Iterator[Hit], limit: int) -> int:
    shown = [hit for hit, _ in zip(hits, range(limit), strict=False)] if limit else list(hits)
    rows = [
        (
            hit.at,
            hit.decision_id,
            f"{hit.decision} {' '.join(hit.codes)}".strip(),
            hit.campaign,
            hit.caller_id,
            hit.client,
            hit.outcome,
        )
        for hit in shown
    ]
    show_table("", ("at", "decision", "verdict", "campaign", "caller ID", "client", "outcome"), rows)
    more = ", and there may be more: raise --limit" if limit and len(shown) == limit else ""
    typer.echo(f"{len(shown):,} found{more}")
    return len(shown)


# ---- replay ----------------------------------------------------------------------------------------------------------


@log_app.command("replay")
def log_replay(
    *,
    decision: Annotated[
        str, typer.Argument(help="Only this decision: its id, or its number in the log. Default: all.")
    ] = "",
    first: First = 1,
    last: Last = None,
    since: Since = "",
    until: Until = "",
    law: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Draft of a country file to decide by."),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Repeat each decision from its recorded facts and the law of its day, and compare the results byte by byte.

    With --law, show what a draft of a country file would change, by campaign and rule. The facts are those recorded: a registry that only
    the draft requires was not consulted then, so the draft denies.

    Exit 0: all are the same. 1: some differ.

    dialgate log replay --since 2026-11-01T00:00:00+01:00 --law draft.yaml
    """
    with reporting(as_json=as_json), _reading():
        loaded = load_config(config)
        readers = list(_chains(loaded).readers.values())
        chosen = _span(since, until, first, last)
        if decision:
            readers, chosen = _one(readers, _keys(loaded).ids.inside(decision))
        law_of = replaying.draft(_draft(law)) if law else replaying.of_its_day(loaded.data / "kept")
        compare = replaying.in_effect if law else replaying.exact
        with _progress(readers, chosen) as entries:
            report = replaying.replay(entries, law_of, compare)
    if as_json:
        show_json(_as_builtins(report))
    else:
        _show_replay(report, draft=law is not None)
    raise typer.Exit(NO if report.different else 0)


def _one(readers: list[Reader], decision: str) -> tuple[list[Reader], Span]:
    """Return the log and the position of a decision. A number alone is looked up in the logs in turn."""
    seq = span.sequence(decision)
    for reader in readers:
        found = reader.find(seq) if seq is not None else None
        if isinstance(found, Record) and decision in {str(seq), found.id}:
            return [reader], Span(first=found.seq, last=found.seq)
    raise Failure(
        "decision.unknown",
        "No decision in this log has this id or number. `dialgate log search` lists them.",
        field="decision",
    )


def _draft(path: Path) -> Law:
    try:
        return parse_law(yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader))
    except (LawError, yaml.YAMLError, ValueError) as error:
        raise Failure(
            "law.invalid", f"{path} is not a valid country file: {error}", field="law", status=MISUSE
        ) from None


@contextmanager
def _progress(readers: list[Reader], chosen: Span) -> Iterator[Iterator[Record | OutcomeRecord]]:
    """Yield the entries, one log after the other, with a progress bar for each on a terminal."""
    with bars() as bar:
        yield chain.from_iterable(_entries(bar, reader, chosen) for reader in readers)


def _entries(bar: Bars, reader: Reader, chosen: Span) -> Iterator[Record | OutcomeRecord]:
    at, end = span.begin(reader, chosen), min(span.end(reader), chosen.last + 1)
    advance = bar("replaying", max(end - at, 1))
    for number, (line, entry) in enumerate(span.within(reader, chosen)):
        if not number % _EVERY:
            advance(line.seq - at)
            at = line.seq
        yield entry


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


def _show_replay(report: Replay, *, draft: bool) -> None:
    same = report.records - report.different - report.beside
    typer.echo(f"{report.records:,} decisions, {same:,} the same, {report.different:,} different")
    if report.beside:
        typer.echo(f"{report.beside:,} are of another country than the draft, and were skipped")
    if not report.different:
        return
    verdicts = [(was, becomes, f"{count:,}") for (was, becomes), count in report.verdicts.most_common()]
    show_table("Verdicts", ("was", "would be" if draft else "is now", "decisions"), verdicts)
    rows = [(*row, f"{count:,}") for row, count in report.rows.most_common()]
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


# ---- shared by these commands ----------------------------------------------------------------------------------------


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except Unavailable as fault:
        raise Failure(f"{fault.component}.unavailable", str(fault)) from None
    except content_store.NotKept as fault:
        raise Failure("law.missing", str(fault)) from None


def _log(config: Config) -> Path:
    folder = config.data / "log"
    if not folder.is_dir():
        raise Failure("log.unreadable", f"{folder} does not exist. Check --config, or start the gate once")
    return folder


def _chains(config: Config) -> Chains:
    _log(config)
    return Chains(config.data)


def _keys(config: Config) -> Keys:
    _log(config)
    path = config.data / "keys.json"
    if not path.is_file():  # opening a missing file would create one
        raise Failure(
            "keys.unavailable",
            f"{path} does not exist, and no number can be found without it. Restore it from its backup",
        )
    return Keys.open(path)


def _span(since: str, until: str, first: int = 1, last: int | None = None) -> Span:
    limits: Mapping[str, int | None] = {
        "since": instant(since, "since"),
        "until": instant(until, "until"),
        "first": first,
        "last": last,
    }
    return Span(**{name: value for name, value in limits.items() if value is not None})
