"""`dialgate backup`: a copy of the data folder."""

from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any

import typer

from dialgate.core.faults import Unavailable
from dialgate.crypto.log_signing import public_keys
from dialgate.decision_log import chains, verify
from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, Failure, load_config
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import NO, OF_BYTES, progress
from dialgate.tools.backup import back_up, ledger_end, record_backup

app = typer.Typer()


def _show(report: dict[str, Any]) -> None:
    damaged = "its log is DAMAGED: run `dialgate log verify` on copy and original"
    verdict = "its log is intact" if report["ok"] else damaged
    typer.echo(
        f"{report['files']:,} files copied to {report['out']}; {verdict}, {report['records']:,} records."
    )
    if report["ledger"]:
        typer.echo(
            f"The copied ledger ends with entry {report['ledger']}. After a restore, revocations with a higher `seq` are"
            " missing. To record them again, see docs/how-to/back-up-and-restore.md."
        )


@app.command()
@command(_show, ok=itemgetter("ok"))
def backup(
    out: Annotated[Path, typer.Argument(file_okay=False, help="Folder to create.")],
    *,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: AsJson = False,
) -> dict[str, Any]:
    """Copy the data folder of a running or stopped gate, and verify the copied log.

    The copy contains the keys: protect it like the original, and destroy it when a month is retired or a number is
    erased. To restore, stop the original gate permanently, set `data` to the copy and start the gate. It then adds any
    revocations in the copied log that are missing from the ledger, and begins a new log, so that no decision id is given
    twice. This command shows the `seq` of the last ledger entry in the copy. After a restore, record the revocations with a
    higher `seq` by hand.

    dialgate backup /mnt/elsewhere/2026-11-24
    """
    loaded, begun = load_config(config), wall_clock()
    try:
        with progress(*OF_BYTES, shown=not as_json) as bar:
            task = bar.add_task("copying", total=None)
            files = back_up(
                loaded.data, out, lambda done, whole: bar.update(task, completed=done, total=whole)
            )
    except OSError as error:
        raise Failure("backup.failed", f"{error.filename}: {error.strerror}") from None
    keys = public_keys(out / "signing.json")
    newest = _ledger_end(out)
    proofs = [verify(folder, keys=keys) for folder in chains.folders(out).values()]
    ok, records = all(proof.ok for proof in proofs), sum(proof.last for proof in proofs)
    if ok:
        record_backup(loaded.data, begun)
    return {"ok": ok, "out": str(out), "files": files, "records": records, "ledger": newest}


def _ledger_end(out: Path) -> int:
    try:
        return ledger_end(out)
    except Unavailable as error:
        raise Failure("backup.failed", str(error), status=NO) from None
