"""`dialgate caller-id probe`: calls to caller IDs, to prove that they are answered."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from msgspec import Struct

from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.interfaces.cli.command import command, show_rows
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger import caller_id_app
from dialgate.interfaces.cli.options import (
    Failure,
    load_config,
    number_given,
    numbers_given,
)
from dialgate.interfaces.cli.probe_call import (
    Credentials,
    Probe,
    ProbeTimes,
    ProbeTrunk,
    call_number,
)
from dialgate.ledger.schemas import CallerIdProofRequest
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, console

app = caller_id_app
_SIP_PORT = 5060
_T1 = 500
_WORDS: dict[str, str] = {
    "answered": "answered: recorded as proof",
    "not_answered": "not answered: recorded, so calls with it are denied from now on",
    "not_probed": "could not be called: nothing was recorded",
}
# Statuses that concern the trunk rather than the called line; 0: no response.
_WHY: dict[int, str] = {
    0: "the trunk did not respond. Check its address, and that UDP reaches it from here",
    401: "the trunk requires authentication. Check --user and its password",
    403: "the trunk refused the call. Check that it allows this machine and this caller ID (--show)",
    407: "the trunk requires authentication. Check --user and its password",
    488: "the trunk does not accept audio in G.711 A-law. Enable it on the trunk",
    503: "the trunk is out of service or has no free line. Try again later",
}


class _Line(Struct, frozen=True):
    controller: str
    number: str


_Shown: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NUMBER",
        help="Caller ID for the probe calls. Use - to read it from standard input. Default: the called number.",
        callback=number_given,
    ),
]
_PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        envvar="DIALGATE_PROBE_PASSWORD_FILE",
        help="File that contains the password. Default: the password in the environment variable DIALGATE_PROBE_PASSWORD.",
    ),
]
_Numbers: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NUMBER]...",
        help="Caller IDs to call. Use - to read them from standard input.",
        callback=numbers_given,
    ),
]
_TrunkAt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="HOST[:PORT]", envvar="DIALGATE_PROBE_TRUNK", help="SIP trunk to call through, over UDP."
    ),
]
_Local: TypeAlias = Annotated[
    str, typer.Option(metavar="ADDRESS[:PORT]", help="Local address to call from. Default: any.")
]
_Timer: TypeAlias = Annotated[
    int,
    typer.Option(
        "--t1",
        min=10,
        max=2_000,
        help="SIP timer T1 (RFC 3261) in milliseconds. The timeout for responses is 64 times T1.",
    ),
]


_Results: TypeAlias = list[tuple[_Line, Probe]]


def _show(results: _Results) -> None:
    show_rows(
        "",
        results,
        {
            "caller ID": lambda result: result[0].number,
            "controller": lambda result: result[0].controller,
            "result": lambda result: _WORDS[result[1].outcome],
            "response": lambda result: ": ".join(filter(None, (_response(result[1]), _why(result[1])))),
        },
    )


def _response(probe: Probe) -> str:
    return f"{probe.status} {probe.phrase}".strip() if probe.status else ""


def _why(probe: Probe) -> str:
    return _WHY.get(probe.status, "") if probe.outcome == "not_probed" else ""


def _as_builtins(line: _Line, probe: Probe) -> dict[str, object]:
    return {
        "caller_id": line.number,
        "controller": line.controller,
        "outcome": probe.outcome,
        "status": probe.status,
        "said": probe.phrase,
        "why": _why(probe),
        "rang_ms": probe.rang,
        "answered_ms": probe.answered,
        "packets": probe.packets,
        "evidence": probe.evidence,
    }


@caller_id_app.command("probe")
@command(
    _show,
    data=lambda results: [_as_builtins(*result) for result in results],
    ok=lambda results: all(probe.outcome == "answered" for _, probe in results),
)
def caller_id_probe(
    numbers: _Numbers = None,
    *,
    trunk: _TrunkAt,
    every: Annotated[bool, typer.Option("--all", help="Call every caller ID that needs a proof.")] = False,
    controller: Annotated[str, typer.Option(help="Only caller IDs belonging to this controller.")] = "",
    show: _Shown = "",
    user: Annotated[
        str,
        typer.Option(envvar="DIALGATE_PROBE_USER", help="User name, if the trunk requires authentication."),
    ] = "",
    password_file: _PasswordFile = None,
    local: _Local = "",
    ring: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds to let a call ring.")] = 45,
    listen: Annotated[float, typer.Option(min=0, max=60, help="Seconds to listen after the answer.")] = 3,
    tries: Annotated[
        int, typer.Option(min=1, max=5, help="Maximum number of calls to a number that does not answer.")
    ] = 2,
    pause: Annotated[
        float, typer.Option(min=0, max=3600, help="Seconds between calls to the same number.")
    ] = 60,
    t1: _Timer = _T1,
    gate: GateClient,
) -> _Results:
    """Call caller IDs through the trunk with SIPp (package sip-tester), and record for each whether it was answered.

    The proof contains the call ID and the SHA-256 of the call trace. The trace is stored in `probes` in the data
    folder. A line that does not answer, is busy or does not exist is recorded as not answered. If the trunk rejects the
    call, nothing is recorded, because a rejection proves nothing about the line. Numbers with a reserved prefix need no
    proof, so --all skips them.

    Exit 0: all were answered. 1: some were not, or could not be called.

    dialgate caller-id probe --all --trunk sbc.example:5060 --user acme --password-file /etc/dialgate/trunk.password
    """
    loaded = load_config(gate.config)
    lines = _lines(loaded, numbers or [], controller, every=every)
    host, port = _address(trunk, _SIP_PORT, "trunk")
    credentials = _credentials(user, password_file)
    source = _address(local, 0, "local") if local else None
    patience = ProbeTimes(ring=int(ring * 1000), listen=int(listen * 1000), t1=t1)
    results: _Results = []
    with console(stderr=True).status("calling") as status:
        for line in lines:
            status.update(f"calling {line.number}")
            sip_trunk = ProbeTrunk(
                host=host, port=port, caller=show or line.number, local=source, credentials=credentials
            )
            probe = asyncio.run(_call(line.number, sip_trunk, patience, tries=tries, pause=pause))
            _record(gate, loaded, line, probe)
            results.append((line, probe))
    return results


def _lines(config: Config, numbers: list[str], controller: str, *, every: bool) -> list[_Line]:
    """Return the lines to call. Raises `Failure` if a number is not a caller ID for any campaign."""
    if bool(numbers) == every:
        raise Failure("request.invalid", "Give either caller IDs or --all.", status=MISUSE)
    shown = {
        (line.controller.id, number): line.home
        for line in config.lines.values()
        for number, caller_id in line.caller_ids.items()
        if caller_id.form == "number" and controller in {"", line.controller.id}
    }
    if every:
        return [_Line(*key) for key, home in sorted(shown.items()) if not _reserved(config, key[1], home)]
    wanted: list[_Line] = []
    for number in numbers:
        keys = [key for key, home in shown.items() if phone.parse_caller_id(number, home).number == key[1]]
        if not keys:
            raise Failure(
                "caller_id.invalid",
                "No campaign has this caller ID. Check it, or add it to a campaign's `caller_ids`.",
                field="NUMBER",
                status=MISUSE,
            )
        wanted += [_Line(*key) for key in keys]
    return wanted


def _reserved(config: Config, number: str, home: str) -> bool:
    """Return whether the number has a reserved prefix. Such a number needs no proof (L. 5/2018 art. 2 c. 1)."""
    sections = config.laws[home].caller_ids
    return any(section.class_of(number) for section in sections)


async def _call(number: str, trunk: ProbeTrunk, patience: ProbeTimes, *, tries: int, pause: float) -> Probe:
    """Call a number, up to `tries` times because the line may be busy. Raises `Failure` and `Refused`."""
    for left in reversed(range(tries)):
        try:
            probe = await call_number(number, trunk, patience)
        except OSError as error:
            raise Failure(
                "trunk.unreachable",
                f"{trunk.host}: {error.strerror or error}. Check --trunk and --local",
                field="trunk",
            ) from None
        if probe.outcome == "answered" or not left:
            return probe
        await asyncio.sleep(pause)
    raise AssertionError("`tries` must be at least 1")


def _record(gate: GateClient, config: Config, line: _Line, probe: Probe) -> None:
    """Write the trace of the call, then the proof that refers to it."""
    folder = config.data / "probes"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{wall_clock()}-{line.controller}-{line.number.removeprefix('+')}.sip"
    write_file(folder / name, probe.trace)
    if probe.outcome == "not_probed":
        return
    proof = CallerIdProofRequest(
        controller=line.controller, caller_id=line.number, kind="probe", channel="probe",
        answered=probe.outcome == "answered", evidence=f"{probe.evidence} file={name}",
    )  # fmt: skip
    with gate.open("POST", "/v1/caller-ids/proofs", proof):
        pass


def _credentials(user: str, password_file: Path | None) -> Credentials | None:
    if not user:
        return None
    password = (
        password_file.read_text("utf-8").strip()
        if password_file
        else os.environ.get("DIALGATE_PROBE_PASSWORD", "")
    )
    if not password:
        advice = (
            "--user needs a password. Write it to a file for --password-file, or set DIALGATE_PROBE_PASSWORD."
        )
        raise Failure("request.invalid", advice, field="password-file", status=MISUSE)
    return Credentials(user, password)


def _address(text: str, default: int, option: str) -> tuple[str, int]:
    host, colon, port = text.removeprefix("sip:").rpartition(":")
    if not colon or text.endswith("]"):
        return text.removeprefix("sip:").strip("[]"), default
    if not port.isdecimal():
        raise Failure("request.invalid", "Write it like this: sbc.example:5060.", field=option, status=MISUSE)
    return host.strip("[]"), int(port)
