"""`dialgate conformance`: a test that a dialer places no call while its gate misbehaves."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dialgate.interfaces.cli.options import AsJson, Failure, number_given, reporting
from dialgate.runtime.terminal import MISUSE, NO, WITHOUT_END, progress, show_json, show_table
from dialgate.tools.conformance import kit
from dialgate.tools.conformance.dialers import (
    EMULATED,
    ConfiguredDialer,
    Dialer,
    PythonClient,
    read_shipped,
)
from dialgate.tools.conformance.dialplan import NoExtension
from dialgate.tools.conformance.kit import CaseFinding
from dialgate.tools.conformance.model import Unknown
from dialgate.tools.conformance.real_dialers import RealDialer

app = typer.Typer()
_DEPLOY = Path("deploy")
_PYTHON, _OWN = "python", "own"


_Place: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="COMMAND", help=f"For {_OWN}: command that makes your dialer place a call to $DIALGATE_TO."
    ),
]
_TrunkPort: TypeAlias = Annotated[
    int | None,
    typer.Option(
        min=1, max=65_535, help=f"For {_OWN}: local UDP port that your dialer uses as its SIP trunk."
    ),
]
_GatePort: TypeAlias = Annotated[
    int,
    typer.Option(
        min=0,
        max=65_535,
        help=f"For {_OWN}: gate port in your dialer's configuration. 0: a free port, which your command receives in $DIALGATE_PORT.",
    ),
]
_CallerId: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NUMBER",
        help=f"For {_OWN}: caller ID that your dialer shows. Use - to read it from standard input. Default: any.",
        callback=number_given,
    ),
]


@app.command()
def conformance(  # noqa: PLR0917 - a command has as many parameters as it has options
    client: Annotated[
        str, typer.Argument(help=f"{', '.join([*EMULATED, _PYTHON])}, or {_OWN} for your real dialer.")
    ],
    file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Your dialplan. Default: the one in deploy/."),
    ] = None,
    context: Annotated[
        str,
        typer.Option(
            help="Dialplan context for outbound calls, or the route for OpenSIPS. Default: the one in deploy/."
        ),
    ] = "",
    place: _Place = "",
    trunk: _TrunkPort = None,
    port: _GatePort = 0,
    caller_id: _CallerId = "",
    wait: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait before a call counts as not placed.")
    ] = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Simulate a misbehaving gate for a dialer, and report for each case whether a call got through.

    The simulated gate denies a request whose numbers are not those of the test call. An emulated dialer runs the
    configuration file in deploy/, or your own file. With `own`, your real dialer is tested. Without --trunk, the
    dialer's call counts as placed if COMMAND ends with exit code 0.

    The case `allow` fails if the call does not get through. Every other case fails if the call gets through. A case
    also fails if the call hangs, goes to a different number, or shows a wrong caller ID. In the case `drip`, the call
    may hang, because Asterisk cannot end it. An Asterisk file is also searched for a second Dial to the trunk, in any context. A second Dial is a failure.

    Exit 0: no case failed. 1: at least one case failed.

    dialgate conformance asterisk

    dialgate conformance own --place "./place-a-call.sh" --trunk 5070 --port 8080
    """
    with reporting(as_json=as_json):
        dialer = _dialer(client, file, context, RealDialer(place, wait, trunk, caller_id) if place else None)
        try:
            findings = asyncio.run(_run(dialer, port, as_json=as_json))
        except NoExtension as error:
            raise Failure("conformance.unknown", str(error), field="context", status=MISUSE) from None
        except Unknown as error:
            raise Failure("conformance.unknown", f"the kit does not support {error}", status=MISUSE) from None
        except OSError as error:
            raise Failure(
                "conformance.port",
                f"cannot listen on the gate or trunk port: {error}. Check --port and --trunk",
                status=MISUSE,
            ) from None
    if not as_json:
        _show(findings)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else NO)


def _dialer(client: str, file: Path | None, context: str, real: RealDialer | None) -> Dialer:
    if client == _OWN and real is not None:
        return real
    if client == _PYTHON:
        return PythonClient()
    if client not in EMULATED:
        text = (
            f"{_OWN} needs --place COMMAND"
            if client == _OWN
            else f"choose one of {', '.join([*EMULATED, _PYTHON, _OWN])}"
        )
        raise Failure("request.invalid", text, field="client", status=MISUSE)
    if file is not None:
        kind = EMULATED[client]
        return ConfiguredDialer(kind, file.read_text("utf-8"), context or kind.context)
    try:
        shipped = read_shipped(client, _DEPLOY)
    except OSError:
        raise Failure(
            "request.invalid",
            "deploy/ is not in the current folder. Run this in the source tree, or name your own file with --file",
            field="file",
            status=MISUSE,
        ) from None
    return ConfiguredDialer(shipped.kind, shipped.text, context or shipped.context)


async def _run(dialer: Dialer, port: int, *, as_json: bool) -> list[CaseFinding]:
    findings: list[CaseFinding] = []
    cases = kit.cases_for(dialer)
    with progress(*WITHOUT_END, shown=not as_json) as bar:
        task = bar.add_task(cases[0].about)
        async for finding in kit.run(dialer, port, cases):
            findings.append(finding)
            bar.update(task, description=f"{len(findings)} of {len(cases)}: {finding.about}")
            if as_json:
                show_json(finding)
    return findings


def _show(findings: Iterable[CaseFinding]) -> None:
    rows = [
        (finding.case, finding.about, _outcome(finding), "ok" if finding.ok else "OPEN")
        for finding in findings
    ]
    show_table("", ("case", "the gate", "the dialer", ""), rows)


def _outcome(finding: CaseFinding) -> str:
    if finding.case == kit.ANOTHER_WAY.name:
        return f"also dialled by {finding.note}" if finding.note else "none found"
    outcome = f"through: {finding.through}" if finding.through else "no call"
    return "; ".join(filter(None, (outcome, finding.note)))
