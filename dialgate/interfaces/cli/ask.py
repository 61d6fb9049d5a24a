"""`dialgate check` and `dialgate simulate`: questions to a running gate about one call."""

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

import msgspec
import typer
from msgspec import Struct

from dialgate.core.model import CallType
from dialgate.core.responses import Answer, Reason, RuleOutcome, Simulation
from dialgate.interfaces.cli.gate_client import GateClient, GateUnreachable, asks_gate
from dialgate.interfaces.cli.options import AsJson, Failure, number_given, reporting
from dialgate.runtime.terminal import NO, console, show_table

app = typer.Typer()
_UNDECIDED: Final = 503  # of a check; the body is a denial

To: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NUMBER",
        help="The number to call. Use - to read it from standard input.",
        callback=number_given,
    ),
]
From: TypeAlias = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="NUMBER",
        help="The caller ID to show. Use - to read it from standard input.",
        callback=number_given,
    ),
]
CampaignId: TypeAlias = Annotated[str, typer.Option(help="Campaign ID.")]
CallTypeName: TypeAlias = Annotated[
    CallType | None,
    typer.Option(help="Call type. The gate uses the stricter of this type and the campaign's."),
]


class CallQuestion(Struct, omit_defaults=True):
    to: str
    from_: str = msgspec.field(name="from")
    campaign: str
    call_id: str = ""
    call_type: CallType | None = None
    at: str = ""


@app.command()
@asks_gate
def check(
    *,
    to: To,
    from_: From,
    campaign: CampaignId,
    call_id: Annotated[
        str,
        typer.Option(
            help="The dialer's call ID. A repeated check with the same ID counts as the same call until the decision expires."
        ),
    ] = "",
    call_type: CallTypeName = None,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Check whether a call may be placed now. The decision is recorded, and a permitted call counts as an attempt.

    Exit 0: allowed. 1: denied, or the gate cannot be reached.

    dialgate check --to +390612345678 --from +390844123456 --campaign acme-fibre --key-file .data/sample.key
    """
    question = CallQuestion(to=to, from_=from_, campaign=campaign, call_id=call_id, call_type=call_type)
    with reporting(as_json=as_json):
        body = _decide(gate, "/v1/check", question, _UNDECIDED)
    answer = msgspec.json.decode(body, type=Answer)
    if as_json:
        typer.echo(body)
    else:
        until = f", until {answer.valid_until}" if answer.valid_until else ""
        again = f", not before {answer.not_before}" if answer.not_before else ""
        recorded = f"decision {answer.decision_id}" if answer.decision_id else "no decision was recorded"
        typer.echo(f"{answer.decision}{until}{again}   ({recorded})")
        _show_reasons(answer.reasons)
    raise typer.Exit(0 if answer.decision == "allow" else NO)


@app.command()
@asks_gate
def simulate(
    *,
    to: To,
    from_: From,
    campaign: CampaignId,
    at: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Time of the call, for example 2026-12-25T10:00:00+01:00. Default: now."
        ),
    ] = "",
    call_type: CallTypeName = None,
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Simulate a check, and show the outcome of every rule. No attempt and no decision is recorded.

    Exit 0: the call would be allowed. 1: it would be denied.

    dialgate simulate --to +390612345678 --from +390844123456 --campaign acme-fibre --at 2026-12-25T10:00:00+01:00
    """
    question = CallQuestion(to=to, from_=from_, campaign=campaign, call_type=call_type, at=at)
    with reporting(as_json=as_json):
        body = _decide(gate, "/v1/simulate", question)
    simulation = msgspec.json.decode(body, type=Simulation)
    if as_json:
        typer.echo(body)
    else:
        _show_simulation(simulation)
    raise typer.Exit(0 if simulation.decision == "allow" else NO)


def _decide(gate: GateClient, path: str, question: CallQuestion, *accepted: int) -> bytes:
    """Return the response body: a decision, or an error that explains why there is none. Raises `Failure`."""
    try:
        with gate.open("POST", path, question, accepted=accepted) as response:
            return response.read()
    except GateUnreachable as unreachable:
        raise Failure(unreachable.code, f"{unreachable} The call is not allowed.") from None


def _show_reasons(reasons: list[Reason]) -> None:
    if reasons:
        rows = [(reason.code, reason.severity, reason.text, reason.law) for reason in reasons]
        show_table("", ("reason", "severity", "text", "law"), rows)


def _show_simulation(simulation: Simulation) -> None:
    times = f"valid until {simulation.valid_until}" if simulation.valid_until else ""
    if simulation.not_before:
        times = f"not before {simulation.not_before}"
    console().print(
        ", ".join(filter(None, (simulation.decision, f"at {simulation.at}", simulation.basis, times)))
    )
    if simulation.places or simulation.zones:
        console().print(whereabouts(simulation.places, simulation.zones))
    show_table(
        "",
        ("rule", "result", "why"),
        [(outcome.rule, outcome.result, _why(outcome)) for outcome in simulation.outcomes],
    )


def whereabouts(places: Iterable[str], zones: Iterable[str]) -> str:
    """Return a line with the places and time zones in which the called person may be."""
    return f"place: {', '.join(places) or 'not known'}; time zones: {', '.join(zones) or 'not known'}"


def _why(outcome: RuleOutcome) -> str:
    law = f" ({outcome.law})" if outcome.law else ""
    return f"{outcome.code}: {outcome.text}{law}" if outcome.code else outcome.text
