"""`dialgate consent import`, `contract import` and `request import`: ledger entries from a file."""

from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dialgate.interfaces.cli.command import command
from dialgate.interfaces.cli.files import Column, Encoding, Reasons, Separator, Yes, send_file, show_import
from dialgate.interfaces.cli.gate_client import GateClient
from dialgate.interfaces.cli.ledger import app, consent_app, contract_app, request_app
from dialgate.interfaces.cli.options import AsJson
from dialgate.interfaces.cli.request_options import options_of
from dialgate.ledger import bulk_import
from dialgate.ledger.import_reports import EntriesReport
from dialgate.ledger.request_fields import fields_of
from dialgate.ledger.schemas import EntriesRequest

__all__ = ["app"]

File: TypeAlias = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="CSV or XLSX file with a header.")
]
_COUNTS = {
    "rows": "rows",
    "recorded": "recorded",
    "recorded before": "known",
    "skipped": "refused",
    "over the limit of a number": "over_limit",
}
_ABOUT = """Record every {what} from a file. Required columns: {required}. Optional columns: {optional}.
{several}

The whole file is read before anything is written. If a row is invalid, the file is rejected, unless --skip-bad is set. Entries that
are already in the ledger are not recorded twice.

{example}"""


def _several(kind: str) -> str:
    """Return the help sentence about columns that accept several values, or an empty string if there are none."""
    fields = fields_of(bulk_import.KINDS[kind])
    names = [f"`{field.name}`" for field in fields if field.shape in {"choices", "texts"}]
    return f"In {', '.join(names)}, several values are separated by `;` or `|`.\n" if names else ""


def _add_import(group: typer.Typer, kind: str, path: str, example: str) -> None:
    required, optional = bulk_import.columns_by_need(bulk_import.KINDS[kind])
    about = _ABOUT.format(
        what=kind.replace("_", " "),
        required=", ".join(["number", *required]),
        optional=", ".join(optional),
        several=_several(kind),
        example=example,
    )

    @group.command("import", help=about)
    @command(partial(show_import, "Entries", _COUNTS))
    @options_of(EntriesRequest, channel="crm", fixed={"kind": kind})
    def run(
        import_request: EntriesRequest,
        *,
        file: File,
        controller: str,
        encoding: Encoding = "",
        separator: Separator = "",
        column: Column = "",
        yes: Yes = False,
        reasons: Reasons = None,
        gate: GateClient,
        as_json: AsJson = False,
    ) -> EntriesReport:
        return send_file(gate, f"{path}/import", EntriesReport, import_request, locals())


_add_import(
    consent_app,
    "consent",
    "/v1/consents",
    "dialgate consent import consents.csv --proof exports/2026-11-24.csv --reasons bad.csv",
)
_add_import(
    contract_app,
    "contract",
    "/v1/contracts",
    "dialgate contract import contracts.csv --proof exports/2026-11-24.csv",
)
_add_import(
    request_app,
    "call_request",
    "/v1/call-requests",
    "dialgate request import leads.csv --channel web --proof exports/2026-11-24.csv",
)
