"""Commands that record every consent, contract or call request that a file holds."""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from dialgate.interfaces.cli.files import Column, Encoding, Reasons, Separator, Yes, taken
from dialgate.interfaces.cli.ledger import app, consent_app, contract_app, request_app
from dialgate.interfaces.cli.ledger_access import Actor, Channel, ControllerId, Proof, request
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, ConfigPath, reporting
from dialgate.ledger.schemas import EntriesReport, EntriesRequest
from dialgate.runtime.terminal import show_fields, show_json

__all__ = ["app"]

File: TypeAlias = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX, with a header.")
]
SkipBad: TypeAlias = Annotated[bool, typer.Option("--skip-bad", help="Leave out rows that cannot be taken.")]


_ALIKE = """The file is read to its end before anything is written, and refused whole if a row cannot be taken, unless --skip-bad.
What stands in the ledger already is not entered twice.
"""
_CONSENTS = f"""Record every consent of a file. Columns: number, id, collected_at, purposes, call_types; and, where you have them,
goods, expires_at, text_version, artefact, artefact_sha256, collection_channel, profiling, third_party, double_opt_in, proof.
Several purposes or types are parted by a blank, `;` or `|`.

{_ALIKE}
dialgate consent import consents.csv --proof exports/2026-11-24.csv --reasons bad.csv"""
_CONTRACTS = f"""Record every contract of a file. Columns: number, id, starts; and ends, sector, goods, marketing, proof.

{_ALIKE}
dialgate contract import contracts.csv --proof exports/2026-11-24.csv"""
_REQUESTS = f"""Record every call request of a file. Columns: number, id, requested_at, expires_at; and goods, own_interface, proof.

{_ALIKE}
dialgate request import leads.csv --channel web --proof exports/2026-11-24.csv"""


def _add(group: typer.Typer, kind: str, told: str) -> None:
    @group.command("import", help=told)
    def run(
        *,
        file: File,
        skip_bad: SkipBad = False,
        controller: ControllerId = "",
        encoding: Encoding = "",
        separator: Separator = "",
        column: Column = "",
        yes: Yes = False,
        reasons: Reasons = None,
        channel: Channel = "crm",
        proof: Proof = "",
        actor: Actor = "cli",
        config: ConfigPath = DEFAULT_CONFIG,
        as_json: AsJson = False,
    ) -> None:
        _import(kind, locals())


_add(consent_app, "consent", _CONSENTS)
_add(contract_app, "contract", _CONTRACTS)
_add(request_app, "call_request", _REQUESTS)


def _import(kind: str, options: dict[str, Any]) -> None:
    with reporting(as_json=options["as_json"]):
        ask = request(EntriesRequest, options | {"kind": kind})
        report = taken(
            options, lambda registrar, client, *read: registrar.consents.record_all(client, ask, *read)
        )
    if options["as_json"]:
        show_json(report)
    else:
        _show(report)


def _show(report: EntriesReport) -> None:
    counts = {
        "rows": report.rows,
        "recorded": report.recorded,
        "recorded before": report.known,
        "left out": report.refused,
    }
    fields = {name: f"{count:,}" for name, count in counts.items()} | {"binds after": report.at}
    show_fields("Entries", fields)
