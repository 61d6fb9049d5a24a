"""`dialgate check` and `dialgate simulate`: questions to a running gate about one call."""

from collections.abc import Iterable
from typing import Annotated, Final, TypeAlias

import msgspec
import typer
from msgspec import Struct

from dialgate.core.model import CallType
from dialgate.core.responses import Answer, RuleOutcome, Simulation
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient, GateUnreachable
from dialgate.interfaces.cli.options import Failure, number_given
from dialgate.runtime.terminal import console

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
        help="The caller ID to show, or auto: the gate chooses. Use - to read it from standard input.",
        callback=number_given,
    ),
]
CampaignId: TypeAlias = Annotated[str, typer.Option(help="Campaign ID.")]
CallTypeName: TypeAlias = Annotated[
    CallType | None,
    typer.Option(help="Call type. The gate uses the stricter of this type and the campaign's."),
]


class _Verdict(Struct):
    decision: str


def _show_answer(body: msgspec.Raw) -> None:
    answer = msgspec.json.decode(body, type=Answer)
    until = f", until {answer.valid_until}" if answer.valid_until else ""
    again = f", not before {answer.not_before}" if answer.not_before else ""
    recorded = f"decision {answer.decision_id}" if answer.decision_id else "no decision was recorded"
    would = f" in shadow mode, otherwise {answer.would}" if answer.would else ""
    typer.echo(f"{answer.decision}{would}{until}{again}   ({recorded})")
    if answer.reasons:
        show_rows(
            "", answer.reasons, {"reason": "code", "severity": "severity", "text": "text", "law": "law"}
        )


def _show_simulation(body: msgspec.Raw) -> None:
    simulation = msgspec.json.decode(body, type=Simulation)
    times = f"valid until {simulation.valid_until}" if simulation.valid_until else ""
    if simulation.not_before:
        times = f"not before {simulation.not_before}"
    console().print(
        ", ".join(filter(None, (simulation.decision, f"at {simulation.at}", simulation.basis, times)))
    )
    if simulation.places or simulation.zones:
        console().print(whereabouts(simulation.places, simulation.zones))
    if simulation.caller_id_chosen:
        console().print(f"caller ID {simulation.from_}: {simulation.caller_id_chosen}")
    show_rows("", simulation.outcomes, {"rule": "rule", "result": "result", "why": _why})


def _is_allowed(body: msgspec.Raw) -> bool:
    return msgspec.json.decode(body, type=_Verdict).decision == "allow"


def whereabouts(places: Iterable[str], zones: Iterable[str]) -> str:
    """Return a line with the places and time zones in which the called person may be."""
    return f"place: {', '.join(places) or 'not known'}; time zones: {', '.join(zones) or 'not known'}"


def _why(outcome: RuleOutcome) -> str:
    law = f" ({outcome.law})" if outcome.law else ""
    return f"{outcome.code}: {outcome.text}{law}" if outcome.code else outcome.text


@app.command()
@command(_show_answer, ok=_is_allowed)
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
    agent: Annotated[
        str,
        typer.Option(help="ID of the agent who will talk, never a name. Recorded if `record_agents` is set."),
    ] = "",
    gate: GateClient,
) -> msgspec.Raw:
    """Check whether a call may be placed now. The decision is recorded, and a permitted call counts as an attempt.

    Exit 0: allowed. 1: denied, or the gate cannot be reached.

    dialgate check --to +390612345678 --from +390844123456 --campaign acme-fibre --key-file .data/sample.key
    """
    call = {"to": to, "from": from_, "campaign": campaign}
    more = {"call_id": call_id, "call_type": call_type, "agent": agent}
    return _decide(gate, "/v1/check", call, more, _UNDECIDED)


@app.command()
@command(_show_simulation, ok=_is_allowed)
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
) -> msgspec.Raw:
    """Simulate a check, and show the outcome of every rule. No attempt and no decision is recorded.

    Exit 0: the call would be allowed. 1: it would be denied.

    dialgate simulate --to +390612345678 --from +390844123456 --campaign acme-fibre --at 2026-12-25T10:00:00+01:00
    """
    call = {"to": to, "from": from_, "campaign": campaign}
    return _decide(gate, "/v1/simulate", call, {"call_type": call_type, "at": at})


def _decide(
    gate: GateClient, path: str, call: dict[str, str], more: dict[str, str | None], *accepted: int
) -> msgspec.Raw:
    """Return the response body: a decision, or an error that explains why there is none. Raises `Failure`."""
    given = {name: value for name, value in more.items() if value}
    try:
        with gate.open("POST", path, call | given, accepted=accepted) as response:
            return msgspec.Raw(response.read())
    except GateUnreachable as unreachable:
        raise Failure(unreachable.code, f"{unreachable} The call is not allowed.") from None
