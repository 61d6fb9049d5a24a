"""`dialgate caller-id probe`: calls back the numbers that are shown to people, and records whether somebody answers."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.interfaces.cli.ledger import caller_id_app
from dialgate.interfaces.cli.ledger_access import write
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    number_given,
    numbers_given,
    reporting,
)
from dialgate.interfaces.sip import agent
from dialgate.interfaces.sip.agent import Probe, Trunk
from dialgate.interfaces.sip.digest import Credentials
from dialgate.interfaces.sip.outgoing_call import Patience
from dialgate.interfaces.sip.transactions import Timers
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.schemas import CallerIdProofRequest
from dialgate.runtime.atomic_write import write_file
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, NO, console, show_json, show_table

app = caller_id_app
_SIP_PORT = 5060
_TIMERS = Timers()
_WORDS: dict[str, str] = {
    "answered": "answered: recorded as proof",
    "not_answered": "not answered: recorded, its calls are refused from now on",
    "not_probed": "could not be called; nothing was recorded",
}
# What a status that says nothing of the line says of the trunk; 0: nobody answered at all.
_WHY: dict[int, str] = {
    0: "no answer came from the trunk: is its address right, and does UDP reach it from here?",
    401: "the trunk asks who calls: are --user and its password there, and right?",
    403: "the trunk lets no such call through: does it know this machine, and may it show this number (--show)?",
    407: "the trunk asks who calls: are --user and its password there, and right?",
    488: "the trunk takes no call with sound in G.711 A-law",
    503: "the trunk is out of order, or has no line free: try again later",
}


class _Line(Struct, frozen=True):
    controller: str
    number: str


_Shown: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="NUMBER",
        help="The number that the probe itself shows; else the one it calls. - reads it from standard input.",
        callback=number_given,
    ),
]
_PasswordFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        envvar="DIALGATE_PROBE_PASSWORD_FILE",
        help="Holds the password; else DIALGATE_PROBE_PASSWORD does.",
    ),
]
_Numbers: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NUMBER]...",
        help="As they are presented; - reads them from standard input.",
        callback=numbers_given,
    ),
]
_TrunkAt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="HOST[:PORT]", envvar="DIALGATE_PROBE_TRUNK", help="Where to send the calls, by UDP."
    ),
]
_T1: TypeAlias = Annotated[
    int,
    typer.Option(
        "--t1",
        min=10,
        max=2_000,
        help="SIP timer T1 (RFC 3261) in milliseconds. A trunk that does not respond is given up after 64 times T1.",
    ),
]


@caller_id_app.command("probe")
def caller_id_probe(
    numbers: _Numbers = None,
    *,
    trunk: _TrunkAt,
    every: Annotated[bool, typer.Option("--all", help="Every caller ID that needs a proof.")] = False,
    controller: Annotated[str, typer.Option(help="Of this controller only.")] = "",
    show: _Shown = "",
    user: Annotated[
        str, typer.Option(envvar="DIALGATE_PROBE_USER", help="For the trunk, if it asks who calls.")
    ] = "",
    password_file: _PasswordFile = None,
    local: Annotated[str, typer.Option(metavar="ADDRESS[:PORT]", help="Where to call from.")] = "",
    ring: Annotated[float, typer.Option(min=0.1, max=300, help="Seconds for which it may ring.")] = 45,
    listen: Annotated[float, typer.Option(min=0, max=60, help="Seconds to listen once it is answered.")] = 3,
    tries: Annotated[
        int, typer.Option(min=1, max=5, help="Calls before a number is held not to be answered.")
    ] = 2,
    pause: Annotated[float, typer.Option(min=0, max=3600, help="Seconds between two of them.")] = 60,
    t1: _T1 = _TIMERS.t1,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Call back presented numbers through the trunk, and record for each whether it was answered.

    The proof names the call and the SHA-256 of its trace, which is kept under `probes` in the data folder. A line that rings
    out, is busy or does not exist is recorded as not answered. What the trunk itself refuses says nothing of the line, and
    is not recorded. Numbers of a reserved prefix need no proof, and --all leaves them out.

    Exit 0: all were answered. 1: some were not, or could not be called.

    dialgate caller-id probe --all --trunk sbc.example:5060 --user acme --password-file /etc/dialgate/trunk.password"""
    with reporting(as_json=as_json):
        loaded = load_config(config)
        lines = _lines(loaded, numbers or [], controller, every=every)
        host, port = _address(trunk, _SIP_PORT, "trunk")
        credentials = _credentials(user, password_file)
        told: list[tuple[_Line, Probe]] = []
        with console(stderr=True).status("calling") as status:
            for line in lines:
                status.update(f"calling {line.number}")
                way = Trunk(host=host, port=port, caller=show or line.number, credentials=credentials)
                patience = Patience(ring=int(ring * 1000), listen=int(listen * 1000))
                source = _address(local, 0, "local") if local else None
                timers = Timers(t1=t1)
                probe = asyncio.run(
                    _tried(line.number, way, patience, timers, local=source, tries=tries, pause=pause)
                )
                _record(config, loaded, line, probe)
                told.append((line, probe))
    if as_json:
        show_json([_as_builtins(*each) for each in told])
    else:
        _show(told)
    raise typer.Exit(0 if all(each.outcome == "answered" for _, each in told) else NO)


def _show(told: list[tuple[_Line, Probe]]) -> None:
    rows = [
        (
            line.number,
            line.controller,
            _WORDS[each.outcome],
            ": ".join(filter(None, (_said(each), _why(each)))),
        )
        for line, each in told
    ]
    show_table("", ("caller ID", "controller", "what became of it", "said"), rows)


def _said(probe: Probe) -> str:
    return f"{probe.status} {probe.phrase}".strip() if probe.status else ""


def _why(probe: Probe) -> str:
    """What to look at where the line could not be called; of a status that nobody foresaw nothing is known."""
    return _WHY.get(probe.status, "") if probe.outcome == "not_probed" else ""


def _lines(config: Config, numbers: list[str], controller: str, *, every: bool) -> list[_Line]:
    """Raises Failure: only numbers that are shown are called."""
    if bool(numbers) == every:
        raise Failure("request.invalid", "Name caller IDs, or give --all.", status=MISUSE)
    shown = {
        (line.controller.id, number): line.home
        for line in config.lines.values()
        for number, each in line.caller_ids.items()
        if each.form == "number" and controller in {"", line.controller.id}
    }
    if every:
        return [_Line(*each) for each, home in sorted(shown.items()) if not _reserved(config, each[1], home)]
    wanted: list[_Line] = []
    for number in numbers:
        found = [key for key, home in shown.items() if phone.parse_caller_id(number, home).number == key[1]]
        if not found:
            raise Failure(
                "caller_id.invalid", "That is no caller ID of a campaign.", field="NUMBER", status=MISUSE
            )
        wanted += [_Line(*each) for each in found]
    return wanted


def _reserved(config: Config, number: str, home: str) -> bool:
    """L. 5/2018 art. 2 c. 1: such a prefix takes the place of a line that can be called back."""
    sections = config.laws[home].caller_ids
    return any(number.startswith(each.prefix) for section in sections for each in section.classes)


async def _tried(
    number: str,
    trunk: Trunk,
    patience: Patience,
    timers: Timers,
    *,
    local: tuple[str, int] | None,
    tries: int,
    pause: float,
) -> Probe:
    """A line may be busy once."""
    for left in reversed(range(tries)):
        try:
            (probe,) = await agent.probe([number], [trunk], patience, timers, local=local)
        except OSError as error:
            raise Failure(
                "trunk.unreachable", f"{trunk.host}: {error.strerror or error}", field="trunk"
            ) from None
        if probe.outcome == "answered" or not left:
            return probe
        await asyncio.sleep(pause)
    raise AssertionError("there is one try at least")


def _record(path: Path, config: Config, line: _Line, probe: Probe) -> None:
    """The trace first: a proof must not name what is not there."""
    folder = config.data / "probes"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{wall_clock()}-{line.controller}-{line.number.removeprefix('+')}.sip"
    write_file(folder / name, probe.trace)
    if probe.outcome == "not_probed":
        return
    kind: Literal["probe"] = "probe"
    ask = CallerIdProofRequest(
        controller=line.controller, caller_id=line.number, kind=kind, channel="probe",
        answered=probe.outcome == "answered", evidence=f"{probe.evidence} file={name}",
    )  # fmt: skip

    async def prove(registrar: Registrar, client: Client) -> None:
        await registrar.caller_ids.prove_caller_id(client, ask)

    write(path, prove)


def _credentials(user: str, password_file: Path | None) -> Credentials | None:
    if not user:
        return None
    password = (
        password_file.read_text("utf-8").strip()
        if password_file
        else os.environ.get("DIALGATE_PROBE_PASSWORD", "")
    )
    if not password:
        advice = "Put the password into --password-file, or into DIALGATE_PROBE_PASSWORD."
        raise Failure("request.invalid", advice, field="password-file", status=MISUSE)
    return Credentials(user, password)


def _address(text: str, default: int, option: str) -> tuple[str, int]:
    host, colon, port = text.removeprefix("sip:").rpartition(":")
    if not colon or text.endswith("]"):
        return text.removeprefix("sip:").strip("[]"), default
    if not port.isdecimal():
        raise Failure("request.invalid", "Write it as sbc.example:5060.", field=option, status=MISUSE)
    return host.strip("[]"), int(port)


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
