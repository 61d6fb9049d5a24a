"""`dialgate why` and `dialgate log search`: finding and explaining decisions.

`log search` reads the data folder, whether or not a gate is running. A search by number needs one, which records it.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, Final, Literal, TypeAlias

import typer

from dialgate.audit import search as searching
from dialgate.audit.explanation import Accounts
from dialgate.audit.search import DecisionQuery, Hit
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.name_suggestions import choose
from dialgate.crypto.keys import Keys
from dialgate.decision_log.chains import Chains, shipped_until
from dialgate.decision_log.span import LogSpan
from dialgate.interfaces.cli.ask import whereabouts
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.instants import Since, Until, optional_instant
from dialgate.interfaces.cli.log_group import log_app
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    ConfigPath,
    Failure,
    Number,
    common_country,
    load_config,
    number_given,
    reporting,
)
from dialgate.interfaces.cli.subjects import Purpose, record_lookups, show_missing
from dialgate.runtime.terminal import MISUSE, NO, console, show_json, show_table
from dialgate.texts import Language

app = typer.Typer()
_PAGE: Final = 1_000  # decisions per request

_ReasonCode: TypeAlias = Annotated[
    str,
    typer.Option(
        help="Only denials with this reason code, such as `registry.listed`. `registry` alone selects all codes with that prefix."
    ),
]
ControllerId: TypeAlias = Annotated[str, typer.Option(help="Only decisions for this controller.")]


# ---- why -------------------------------------------------------------------------------------------------------------


def _show_history(history: dict[str, Any]) -> None:
    out = console()
    for account in history["decisions"]:
        out.print(f"{account.decision_id}  {account.at}", style="bold")
        out.print("\n".join(f"  {sentence}" for sentence in account.words))
        if account.places:
            out.print(f"  {whereabouts(account.places, account.zones)}")
        out.print()
    for notice in history["notices"]:
        out.print(notice)
    show_missing(history["missing"])


@app.command(name="why")
@command(
    _show_history,
    ok=lambda history: history["decisions"] and not history["missing"],
    misuses=("number.invalid",),
)
def why_number(
    *,
    number: Number,
    purpose: Purpose,
    language: Annotated[Language, typer.Option(help="Language of the explanations.")] = "en",
    since: Since = "",
    until: Until = "",
    controller: ControllerId = "",
    gate: GateClient,
) -> dict[str, Any]:
    """Show all decisions about a number, newest first, with their reasons worded for the data subject.

    If gates share a store, the output includes decisions by all of them.

    Exit 0: decisions were found. 1: none was found, or a gate could not be queried.

    dialgate why +390612345678 --purpose "letter of 24 November" --language it --since 2026-11-01T00:00:00+01:00
    """
    read_span(since, until)  # checks the times
    query = {"number": number, "purpose": purpose, "controller": controller, "language": language,
             "since": since, "until": until, "limit": _PAGE}  # fmt: skip
    page = gate.send("GET", "/v1/decisions", Accounts, query=query)
    accounts, missing, notices = page.decisions, dict(page.missing), page.notices
    while page.more:
        before = {"before": accounts[-1].decision_id}
        page = gate.send("GET", "/v1/decisions", Accounts, query={**query, **before})
        accounts += page.decisions
        missing |= page.missing
    return {"decisions": accounts, "retired_months": page.retired_months, "notices": notices, "language": language,
            "missing": missing, "shipped": page.shipped}  # fmt: skip


def _number(raw: str, controller: str, config: Config) -> str:
    """Return the number in E.164. The country code may be omitted if all controllers have the same country."""
    owners = [owner for owner in config.controllers.values() if controller in {"", owner.id}]
    if not owners:
        text = choose("Use one of the configured controllers", config.controllers)
        raise Failure("controller.unknown", text, field="controller")
    try:
        return phone.parse(raw, common_country(owners)).e164
    except phone.NotANumber as problem:
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
    campaign: Annotated[str, typer.Option(help="Only decisions for this campaign.")] = "",
    controller: ControllerId = "",
    verdict: Annotated[Literal["allow", "deny"] | None, typer.Option(help="Only this verdict.")] = None,
    code: _ReasonCode = "",
    client: Annotated[str, typer.Option(help="Only checks by this client.")] = "",
    agent: Annotated[str, typer.Option(help="Only calls of the agent with this ID.")] = "",
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Only calls in shadow mode, which were let through.")
    ] = False,
    number: Annotated[
        str,
        typer.Option(
            help="Only decisions about this number, newest first. Use - to read it from standard input.",
            callback=number_given,
        ),
    ] = "",
    purpose: Annotated[
        str, typer.Option(help="Reason for the look-up, which is recorded. Only with --number.")
    ] = "",
    limit: Annotated[
        int, typer.Option(min=0, help="Maximum number of decisions to show, or 0 for all. --json shows all.")
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
    with reporting(as_json=as_json):
        loaded = load_config(config)
        chains, hashes = open_chains(loaded), None
        if number:
            open_keys(loaded)
            e164 = _number(number, controller, loaded)
            hashes = chains.hashes(e164)
            record_lookups(GateClient(config), [e164], purpose, "decisions", controller)
        query = DecisionQuery(
            campaign=campaign,
            controller=controller,
            verdict=verdict or "",
            code=code,
            client=client,
            shadow=shadow,
            hashes=hashes,
            agents=chains.agents(agent) if agent else None,
        )
        hits = searching.search(chains, query, read_span(since, until))
        count = _print_json(hits) if as_json else _show_hits(hits, limit)
        for node, at in shipped_until(chains.homes).items():
            typer.echo(f"Decisions by gate {node} are included up to {at}.", err=True)
    raise typer.Exit(0 if count else NO)


def _print_json(hits: Iterable[Hit]) -> int:
    count = 0
    for hit in hits:
        show_json(hit)
        count += 1
    return count


def _show_hits(hits: Iterator[Hit], limit: int) -> int:
    with console(stderr=True).status("searching the decision log"):
        shown = list(islice(hits, limit or None))
    rows = [
        (
            hit.at,
            hit.decision_id,
            " ".join([*["would"] * hit.shadow, hit.decision, *hit.codes]),
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


# ---- shared by these commands ----------------------------------------------------------------------------------------


def _refuse_without_log(config: Config) -> None:
    folder = config.data / "log"
    if not folder.is_dir():
        raise Failure("log.unreadable", f"{folder} does not exist. Check --config, or start the gate once")


def open_chains(config: Config) -> Chains:
    _refuse_without_log(config)
    return Chains(config.data, config.shipped)


def open_keys(config: Config) -> Keys:
    _refuse_without_log(config)
    return open_key_file(config)


def open_key_file(config: Config) -> Keys:
    """Open the key file. A missing file is an error, because `Keys.open` would create a new one."""
    path = config.data / "keys.json"
    if not path.is_file():
        raise Failure(
            "keys.unavailable",
            f"{path}, which holds the log's keys, does not exist. Restore it from a backup",
        )
    return Keys.open(path)


def read_span(since: str, until: str, first: int = 1, last: int | None = None) -> LogSpan:
    limits: Mapping[str, int | None] = {
        "since": optional_instant(since, "since"),
        "until": optional_instant(until, "until"),
        "first": first,
        "last": last,
    }
    return LogSpan(**{name: value for name, value in limits.items() if value is not None})
