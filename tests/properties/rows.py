"""The rows of consents, contracts and call requests that a controller sends, and the files that hold them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final, TypeAlias

from openpyxl import Workbook

from dialgate.core.model import Instant
from tests.properties import histories
from tests.properties.histories import UNIT
from tests.properties.person import Yes

Row: TypeAlias = dict[str, Any]
BROADBAND, INSURANCE = "broadband", "insurance"
# A form for each thing that a consent can cover: purposes, call types, goods.
FORMS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    "sale": (("sale",), ("agent",), (BROADBAND,)),
    "robot": (("sale",), ("agent", "automated"), (BROADBAND,)),
    "poll": (("statistics",), ("agent",), ()),
    "no goods": (("sale",), ("agent",), ()),
    "other goods": (("sale",), ("agent",), (INSURANCE,)),
    "unproved": (("sale",), ("agent", "automated"), (BROADBAND,)),
}


def when(at: Instant) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat()


def instant(text: str) -> Instant:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def date_of(details: Row) -> str | Instant:
    """Return the date of a consent or contract, as the history shows it."""
    return instant(details["collected_at"]) if "collected_at" in details else str(details["starts"])


def consent_row(consent: histories.Consent, now: Instant) -> Row:
    purposes, call_types, goods = FORMS[consent.covers]
    return {
        "id": consent.id,
        "collected_at": when(now - consent.ago * UNIT),
        "purposes": [*purposes],
        "call_types": [*call_types],
        "goods": [*goods],
        "expires_at": when(now + consent.lasts * UNIT) if consent.lasts else "",
        "double_opt_in": consent.opt_in,
        "artefact": "" if consent.covers == "unproved" else "1.wav",
        "artefact_sha256": "a" * 64,
        # In Italy, neither proves a consent.
        "certificate_url": "https://cert.example/1",
        "certificate_claim": "claim 1",
        "crm_reference": "contact 1",
        "attested_by": "sales",
        "attested_at": when(now - consent.ago * UNIT),
    }


def consent_of(row: Row) -> Yes:
    """Return what a row says, for the model."""
    return Yes(
        instant(row["collected_at"]),
        frozenset(row["purposes"]),
        frozenset(row["call_types"]),
        frozenset(row["goods"]),
        instant(row["expires_at"]) if row["expires_at"] else 0,
        bool(row["artefact"]),
        row["double_opt_in"],
    )


def cell(number: str, way: str) -> int | str:
    """Return the cell of a number, from which Excel may have dropped the plus or the leading zero."""
    national = number.removeprefix("+39")
    return int(national) if way == "excel" else national.lstrip("0") if way == "bare" else number


def file_of(rows: Sequence[Row], way: str, number: str) -> bytes:
    """Return a file with a number in each row."""
    full = [{"number": cell(number, way), **row} for row in rows]
    return table(full, is_xlsx=way in {"xlsx", "excel"})


def table(rows: Sequence[Row], *, is_xlsx: bool) -> bytes:
    header = [*rows[0]]
    lines = [header, *([_text(row[name]) for name in header] for row in rows)]
    if not is_xlsx:
        return "\n".join(";".join(map(str, line)) for line in lines).encode()
    book, file = Workbook(), BytesIO()
    sheet = book.create_sheet(index=0)
    for line in lines:
        sheet.append(line)
    book.save(file)
    return file.getvalue()


def _text(value: Any) -> Any:
    """Return the cell for a value. Only a number is a numeric cell."""
    if isinstance(value, bool):
        return "true" if value else ""
    return " ".join(value) if isinstance(value, list) else value
