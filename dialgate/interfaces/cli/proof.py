"""`dialgate log checkpoint` and `evidence`: proofs from the decision log."""

import asyncio
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dialgate import decision_log
from dialgate.audit import evidence
from dialgate.audit.legal_holds import HoldRefused
from dialgate.config.configuration import Config
from dialgate.core import phone
from dialgate.core.decision_ids import log_of
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer, renew
from dialgate.decision_log import chains
from dialgate.decision_log.inclusion_proofs import NoEvidence
from dialgate.interfaces.cli.config import log_app
from dialgate.interfaces.cli.files import write_out
from dialgate.interfaces.cli.instants import Since, Until, optional_instant
from dialgate.interfaces.cli.options import (
    DEFAULT_CONFIG,
    AsJson,
    ConfigPath,
    Failure,
    load_config,
    reporting,
)
from dialgate.interfaces.cli.subjects import Purpose, act
from dialgate.interfaces.cli.verification import Worker, select_logs
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, show_fields, show_json, utc
from dialgate.store import factory

_VERIFIER = "verify_evidence.py"

_NumbersFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        help="File with one number per line, for example +390612345678. The evidence covers all decisions about these numbers.",
    ),
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
    worker: Worker = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Show the newest signed checkpoint. If no gate is running, first sign a checkpoint that covers all records.

    Store the checkpoint and the key name where users who can write to the log have no write access. `log verify` with
    --against then detects that records covered by the checkpoint were removed or replaced.

    dialgate log checkpoint --out /mnt/elsewhere/checkpoint.json
    """
    with reporting(as_json=as_json), _faults():
        loaded = load_config(config)
        ((number, folder),) = select_logs(loaded.data, worker, alone=True, with_ended=False).items()
        stored = _newest(loaded, folder, number, new_key=new_key)
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


def _newest(config: Config, folder: Path, worker: int, *, new_key: bool) -> decision_log.StoredCheckpoint:
    path, now = config.data / "signing.json", wall_clock()
    keys = _keys(config, worker)
    signer = renew(path, now) if new_key else Signer.open(path, now)
    try:
        decision_log.make_checkpoint(folder, log=keys.log, signer=signer, now=now)
    except decision_log.LogUnavailable as error:
        if error.cause != errno.EWOULDBLOCK:
            raise  # otherwise a gate is running, which signs its own checkpoints
    stored = decision_log.last_checkpoint(folder)
    if stored is None:
        raise Failure("log.empty", f"{folder} has no records yet, so there is nothing to sign")
    return stored


@log_app.command("evidence")
def log_evidence(
    decision: Annotated[str, typer.Argument(help="Decision ID.", show_default=False)] = "",
    *,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write the bundle to.")],
    numbers: _NumbersFile = None,
    purpose: Purpose,
    since: Since = "",
    until: Until = "",
    with_verifier: Annotated[
        bool,
        typer.Option("--with-verifier", help=f"Also write {_VERIFIER}, which verifies the bundle."),
    ] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Write evidence for a decision, or for all decisions about a list of numbers, for independent verification.

    The bundle contains the called numbers in plain text. The disclosure is recorded before the bundle is written. For each
    record, the bundle contains the legal basis, and the proof that a signed checkpoint covers the record. It also contains
    the law, the configuration, and the registry receipts and consents that are still stored. Verification needs Python,
    `cryptography` and one file: python verify_evidence.py BUNDLE --key NAME.

    dialgate log evidence 1f0c9a3e-1 --out evidence.json --with-verifier --purpose "Garante, 24 November"

    dialgate log evidence --numbers asked.txt --since 2026-11-01T00:00:00+01:00 --out evidence.json --purpose "Garante"
    """
    with reporting(as_json=as_json), _faults():
        if bool(decision) == bool(numbers):
            raise Failure("evidence.misuse", "give either a DECISION or --numbers FILE", status=MISUSE)
        if decision and (since or until):
            raise Failure("evidence.misuse", "--since and --until need --numbers", status=MISUSE)
        loaded = load_config(config)
        requested = _numbers(numbers) if numbers else []
        span = optional_instant(since, "since"), optional_instant(until, "until")
        bundles = asyncio.run(_evidence(loaded, decision, requested, span, out))
        disclosed = {
            *requested,
            *(number for bundle in bundles.values() for number in evidence.numbers_in(bundle)),
        }
        act(config, lambda subjects, client: subjects.record_disclosure(client, disclosed, purpose))
        for path, bundle in bundles.items():
            write_out(path, bundle)
        if with_verifier:
            source = files("dialgate.tools.verifier").joinpath(_VERIFIER).read_bytes()
            out.with_name(_VERIFIER).write_bytes(source)
        signer = Signer.open(loaded.data / "signing.json", wall_clock())
    if as_json:
        more = {"files": [str(path) for path in bundles]} if len(bundles) > 1 else {}
        size = sum(path.stat().st_size for path in bundles)
        show_json({"file": str(out), "bytes": size, "key": signer.name, **more})
    else:
        for path in bundles:
            size = path.stat().st_size
            typer.echo(
                f"{path}: {size:,} bytes, signed by key {signer.name}. Send the name of the key separately."
            )


async def _evidence(
    config: Config, decision: str, numbers: list[str], span: tuple[Instant | None, Instant | None], out: Path
) -> dict[Path, bytes]:
    """Return the evidence bundle for each output file. The first bundle goes to `out`.

    A decision has one bundle. For `numbers`, there is one bundle for each worker's log.
    """
    now, signer = wall_clock(), Signer.open(config.data / "signing.json", wall_clock())
    store = await factory.open_store(config, patience=5)
    bundles: dict[Path, bytes] = {}
    try:
        for worker in _workers_of(config, decision):
            sources = evidence.Sources.from_folder(
                config.data, keys=_keys(config, worker), signer=signer, store=store, worker=worker
            )
            if decision:
                bundle = await evidence.bundle_decision(sources, decision, now)
            else:
                bundle = await evidence.bundle_numbers(sources, numbers, now, *span)
            bundles[out.with_stem(f"{out.stem}-{worker}") if bundles else out] = bundle
    finally:
        await store.close()
    return bundles


def _workers_of(config: Config, decision: str) -> list[int]:
    """Return the worker that made the decision, or all workers if `decision` is empty."""
    if not decision:
        return list(chains.folders(config.data)) or [1]
    keys = _keys(config, 1)
    return [chains.worker_of(config.data, keys.log, log_of(keys.ids.inside(decision))) or 1]


def _numbers(path: Path) -> list[str]:
    """Read the numbers in a file. Raises `Failure` with the line number, but not the content, of an invalid line."""
    numbers: dict[str, None] = {}
    for place, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if written := line.strip():
            try:
                numbers[phone.parse(written).e164] = None
            except phone.NotANumber as problem:
                text = f"{path}, line {place}: the number {problem}. Write it in E.164, for example +390612345678."
                raise Failure("number.invalid", text, status=MISUSE) from None
    return list(numbers)


def _keys(config: Config, worker: int) -> Keys:
    path = config.data / "keys.json"
    if not path.exists():
        raise Failure("keys.missing", f"{path} does not exist. Check --config, or restore it from its backup")
    return Keys.open(path, worker)


@contextmanager
def _faults() -> Iterator[None]:
    try:
        yield
    except (NoEvidence, HoldRefused) as error:
        raise Failure("evidence.missing", str(error)) from None
    except OSError as error:
        raise Failure("file.unusable", f"{error.filename}: {error.strerror}") from None
