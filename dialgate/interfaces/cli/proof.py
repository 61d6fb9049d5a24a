"""`dialgate log checkpoint` and `evidence`: proofs from the decision log."""

from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
import typer
from msgspec import Struct

from dialgate import decision_log
from dialgate.core import phone
from dialgate.crypto.log_signing import key_name
from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.gate_client import GateClient, asks_gate
from dialgate.interfaces.cli.instants import Since, Until, instant
from dialgate.interfaces.cli.ledger_access import ControllerId
from dialgate.interfaces.cli.log_group import log_app
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.interfaces.cli.subjects import Purpose
from dialgate.interfaces.cli.verification import LogNumber, select_logs
from dialgate.interfaces.http.administration_schemas import EvidenceRequest, SigningKey
from dialgate.runtime.terminal import MISUSE, show_fields, show_json, utc
from dialgate.texts import Language

_VERIFIER = "verify_evidence.py"

_NumbersFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File with one number per line, for example +390612345678. The evidence covers all decisions about these numbers.",
    ),
]
_WithVerifier: TypeAlias = Annotated[
    bool, typer.Option("--with-verifier", help=f"Also write {_VERIFIER}, which verifies the bundle.")
]
_Addressee: TypeAlias = Annotated[
    str,
    typer.Option(help="With --out FILE.zip: the authority. The zip adds a report and a letter to sign."),
]


@log_app.command("checkpoint")
def log_checkpoint(
    *,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the checkpoint to this file.")
    ] = None,
    new_key: Annotated[
        bool,
        typer.Option(
            "--new-key",
            help="Create a new signing key. A running gate signs its next checkpoints with the new key.",
        ),
    ] = False,
    log_number: LogNumber = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the newest signed checkpoint. A gate signs one at intervals, and one that covers all records when it stops.

    Store the checkpoint and the key name where users who can write to the log have no write access. `log verify` with
    --against then detects that records covered by the checkpoint were removed or replaced.

    dialgate log checkpoint --out /mnt/elsewhere/checkpoint.json
    """
    with reporting(as_json=as_json):
        if new_key:
            GateClient(config).send("POST", "/v1/log/signing-key", SigningKey)
        data = load_config(config).data
        ((_, folder),) = select_logs(data, log_number, alone=True, with_ended=False).items()
        stored = decision_log.last_checkpoint(folder)
        if stored is None:
            raise Failure("log.empty", f"{folder} has no checkpoint yet. The gate signs one at intervals")
        if out:
            out.write_bytes(stored.line)
    checkpoint = stored.checkpoint
    fields = {
        "records": checkpoint.size,
        "root": checkpoint.root,
        "head": checkpoint.head,
        "key": checkpoint.key,
    }
    if as_json:
        show_json({**fields, "log": checkpoint.log, "at": checkpoint.at})
    else:
        title = f"Checkpoint of log {checkpoint.log}, {utc(checkpoint.at)}"
        show_fields(title, {name: str(value) for name, value in fields.items()})


@log_app.command("evidence")
@asks_gate
def log_evidence(
    decision: Annotated[str, typer.Argument(help="Decision ID.", show_default=False)] = "",
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write the bundle to.")],
    numbers: _NumbersFile = None,
    purpose: Purpose,
    since: Since = "",
    until: Until = "",
    with_verifier: _WithVerifier = False,
    addressee: _Addressee = "",
    protocol: Annotated[str, typer.Option(help="Protocol number, for the letter.")] = "",
    language: Annotated[Language, typer.Option(help="Language of report and letter.")] = "it",
    controller: ControllerId = "",
    gate: GateClient,
    as_json: AsJson = False,
) -> None:
    """Write evidence for a decision, or for all decisions about a list of numbers, for independent verification.

    The bundle contains the called numbers in plain text. The disclosure is recorded before the bundle is written. For each
    record, the bundle contains the legal basis, and the proof that a signed checkpoint covers the record. It also contains
    the law, the configuration, and the registry receipts and consents that are still stored. Verification needs Python,
    `cryptography` and one file: python verify_evidence.py BUNDLE --key NAME.

    dialgate log evidence 1f0c9a3e-1 --out evidence.json --with-verifier --purpose "Garante, 24 November"

    dialgate log evidence --numbers asked.txt --since 2026-11-01T00:00:00+01:00 --out evidence.json --purpose "Garante"

    dialgate log evidence --numbers asked.txt --out for-them.zip --purpose "Garante" --addressee "Garante, Roma"
    """
    is_zip = out.suffix == ".zip"
    with reporting(as_json=as_json):
        requested = EvidenceRequest(
            purpose=purpose,
            decision=decision or None,
            numbers=_numbers(numbers) if numbers else (),
            since=_time(since, "since"),
            until=_time(until, "until"),
            form="zip" if is_zip else "ndjson",
            addressee=addressee,
            protocol=protocol,
            language=language,
            controller=controller,
        )
        _refuse_misuse(requested)
        with gate.open("POST", "/v1/evidence", requested) as response:
            bundles = [response.read()] if is_zip else response
            paths = [_write_bundle(out, number, bundle) for number, bundle in enumerate(bundles, 1)]
        if with_verifier:
            source = files("dialgate.tools.verifier").joinpath(_VERIFIER).read_bytes()
            out.with_name(_VERIFIER).write_bytes(source)
        if is_zip:
            _show_zip(out, as_json=as_json)
        else:
            _show_bundles(paths, as_json=as_json)


def _refuse_misuse(requested: EvidenceRequest) -> None:
    problem, is_zip = "", requested.form == "zip"
    if (requested.decision is None) == (not requested.numbers):
        problem = "give either a DECISION, or --numbers FILE with at least one number"
    elif requested.decision and (requested.since or requested.until):
        problem = "--since and --until need --numbers"
    elif (is_zip or requested.addressee) and not (is_zip and requested.numbers and requested.addressee):
        problem = "a zip file needs --numbers, --addressee and --out FILE.zip"
    if problem:
        raise Failure("evidence.misuse", problem, status=MISUSE)


def _show_zip(out: Path, *, as_json: bool) -> None:
    size = out.stat().st_size
    if as_json:
        show_json({"file": str(out), "bytes": size})
    else:
        typer.echo(f"{out}: {size:,} bytes. Sign its letter, and send it separately.")


def _show_bundles(paths: list[Path], *, as_json: bool) -> None:
    key = key_name(bytes.fromhex(msgspec.json.decode(paths[0].read_bytes(), type=_Signed).key))
    sizes = {str(path): path.stat().st_size for path in paths}
    if as_json:
        more = {"files": [*sizes]} if len(paths) > 1 else {}
        show_json({"file": str(paths[0]), "bytes": sum(sizes.values()), "key": key, **more})
        return
    for path, size in sizes.items():
        typer.echo(f"{path}: {size:,} bytes, signed by key {key}. Send the name of the key separately.")


class _Signed(Struct):
    key: str


def _write_bundle(out: Path, number: int, bundle: bytes) -> Path:
    """Write a bundle. The first is written to `out`, and those from other logs of the node beside it."""
    path = out if number == 1 else out.with_stem(f"{out.stem}-{number}")
    write_out(path, bundle)
    return path


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    instant(text, option)  # explains an invalid time
    return datetime.fromisoformat(text)


def _numbers(path: Path) -> tuple[str, ...]:
    """Read the numbers in a file. Raises `Failure` with the line number, but not the content, of an invalid line."""
    numbers: dict[str, None] = {}
    for place, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if written := line.strip():
            try:
                numbers[phone.parse(written).e164] = None
            except phone.NotANumber as problem:
                text = f"{path}, line {place}: the number {problem}. Write it in E.164, for example +390612345678."
                raise Failure("number.invalid", text, status=MISUSE) from None
    return tuple(numbers)
