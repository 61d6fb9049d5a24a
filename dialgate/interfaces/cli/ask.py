"""`dialgate check` and `dialgate simulate`: requests to a running gate over HTTP."""

import http.client
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import urlsplit

import msgspec
import typer
from msgspec import Struct

from dialgate.core.model import CallType
from dialgate.core.responses import Answer, Reason, RuleOutcome, Simulation
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    number_given,
    reporting,
)
from dialgate.runtime.terminal import MISUSE, NO, console, show_table

app = typer.Typer()
_SECONDS = 10
_REFUSED = range(400, 500)

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
Url: TypeAlias = Annotated[str, typer.Option(help="Gate URL. Default: from the configuration.")]
KeyFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File that contains the API key. Default: the key in the environment variable DIALGATE_KEY.",
    ),
]


class Question(Struct, omit_defaults=True):
    to: str
    from_: str = msgspec.field(name="from")
    campaign: str
    call_id: str = ""
    call_type: CallType | None = None
    at: str = ""


class Refusal(Struct):
    code: str
    message: str
    field: str = ""


class Refused(Struct):
    error: Refusal


_NO_KEY = "the gate requires a key. Use --key-file, or set DIALGATE_KEY"


class Service(Struct, frozen=True):
    url: str
    key: str

    def ask(self, path: str, question: Question) -> tuple[int, bytes]:
        """Send a question and return the status and body. Raises `Failure` if the gate cannot be reached."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection = self._connection()
        try:
            connection.request("POST", path, msgspec.json.encode(question), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Failure(
                "gate.unreachable",
                f"no response from {self.url}, so the call is not allowed: {error}. Start the gate with `dialgate serve`,"
                " or set --url.",
            ) from None
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Failure(
                "request.invalid",
                f"{self.url!r} is not an http:// or https:// URL. Example: http://127.0.0.1:8080",
                field="url",
                status=MISUSE,
            )
        if parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_SECONDS, context=context)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_SECONDS)


def _service(url: str, key_file: Path | None, config: Path) -> Service:
    key = key_file.read_text("ascii") if key_file else os.environ.get("DIALGATE_KEY", "")
    if not url:
        listen = load_config(config).settings.listen
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        url = f"{'https' if listen.tls_certificate else 'http'}://{host}:{listen.port}"
    return Service(url, key.strip())


@app.command()
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
    url: Url = "",
    key_file: KeyFile = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Check whether a call may be placed now. The decision is recorded, and a permitted call counts as an attempt.

    Exit 0: allowed. 1: denied, or the gate cannot be reached.

    dialgate check --to +390612345678 --from +390844123456 --campaign acme-fibre --key-file .data/sample.key
    """
    question = Question(to=to, from_=from_, campaign=campaign, call_id=call_id, call_type=call_type)
    with reporting(as_json=as_json):
        body = _decide(_service(url, key_file, config), "/v1/check", question)
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
    url: Url = "",
    key_file: KeyFile = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Simulate a check, and show the outcome of every rule. No attempt and no decision is recorded.

    Exit 0: the call would be allowed. 1: it would be denied.

    dialgate simulate --to +390612345678 --from +390844123456 --campaign acme-fibre --at 2026-12-25T10:00:00+01:00
    """
    question = Question(to=to, from_=from_, campaign=campaign, call_type=call_type, at=at)
    with reporting(as_json=as_json):
        body = _decide(_service(url, key_file, config), "/v1/simulate", question)
    simulation = msgspec.json.decode(body, type=Simulation)
    if as_json:
        typer.echo(body)
    else:
        _show_simulation(simulation)
    raise typer.Exit(0 if simulation.decision == "allow" else NO)


def _decide(service: Service, path: str, question: Question) -> bytes:
    """Return the response body: a decision, or an error that explains why there is none. Raises `Failure`."""
    status, body = service.ask(path, question)
    try:
        error = msgspec.json.decode(body, type=Refused).error
    except msgspec.DecodeError:
        if status in {200, 503}:
            return body
        raise Failure(
            "gate.unreachable",
            f"{service.url} responds with {status}, which is not a dialgate response. Check --url",
        ) from None
    code = MISUSE if status in _REFUSED else NO
    message = _NO_KEY if error.code == "auth.missing" else error.message
    raise Failure(error.code, message, field=error.field, status=code)


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
