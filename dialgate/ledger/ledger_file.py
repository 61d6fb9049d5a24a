"""A store's content as NDJSON: the way to another engine, and to another program.

The first line is an `ExportHeader`. The last is an `ExportLine` of kind `end`, which holds the number of rows. Each row
is an `ExportLine`, in the order of `KINDS`. The ledger comes last: while an import is incomplete, the ledger is shorter
than its watermark, so no gate opens the store.

Called numbers are exported as they are stored, as keyed hash and ciphertext, so an import needs the same `keys.json`. For
other programs, ledger entries can also hold the number in clear.

An export contains neither the decision log nor what other files of the data folder hold: keys, the numbers of call lists,
snapshots, and the requests of data subjects.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import groupby, islice
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from dialgate.core.decision_ids import log_of
from dialgate.core.faults import Unavailable
from dialgate.core.ledger_events import Draft, Entry, Exported
from dialgate.core.model import SECOND, Attempt, Instant
from dialgate.crypto.keys import Keys, KeysUnusable, Sealer
from dialgate.store import (
    AttemptPosition,
    CallerIdProof,
    CallList,
    CampaignPause,
    ClientKeys,
    CountedAttempt,
    Delivery,
    HourCount,
    PauseLift,
    Remembered,
    Shared,
    Store,
)
from dialgate.store.breaches import StoredBreach
from dialgate.store.law_acknowledgements import LawAcknowledgement
from dialgate.store.watermark import LedgerWatermark

Kind: TypeAlias = Literal[
    "position", "attempt", "answer", "list", "proof", "delivery", "lift", "pause", "key", "breach", "law", "count",
    "entry",
]  # fmt: skip
TYPES: Final[dict[Kind, type[Struct]]] = {
    "position": AttemptPosition,
    "attempt": CountedAttempt,
    "answer": Remembered,
    "list": CallList,
    "proof": CallerIdProof,
    "delivery": Delivery,
    "lift": PauseLift,
    "pause": CampaignPause,
    "key": ClientKeys,
    "breach": StoredBreach,
    "law": LawAcknowledgement,
    "count": HourCount,
    "entry": Entry,
}
KINDS: Final[tuple[Kind, ...]] = tuple(TYPES)  # in the order of the file
_BATCH_ROWS: Final = 1_000
_RUNNING: Final = 15 * SECOND  # a gate that was seen more recently may still run
# Takes the place of an erased entry, and is erased, so that later entries keep their sequence numbers.
_FILLER: Final = Draft(
    at=0,
    controller="",
    subject=b"\xff" * 16,
    event=Exported(campaign="", rows=0, allowed=0, sha256=""),
    actor="",
    channel="import",
)
_Row = TypeVar("_Row", bound=Struct | int)
_encode: Final = msgspec.json.Encoder().encode


class ExportHeader(Struct, frozen=True, kw_only=True, tag_field="kind", tag="dialgate-ledger"):
    """The first line. `keys` is the fingerprint of the keys, `ledger` the newest sequence number of the ledger."""

    format: Literal[1] = 1
    keys: str
    ledger: int


class ExportLine(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row. `number` is the number of a ledger entry in clear, which an import ignores."""

    kind: Kind | Literal["end"]
    row: msgspec.Raw
    number: str = ""


class LedgerImportRefused(Unavailable):
    """Raised if a file cannot be imported, or if the import lost rows. The message says what to do."""

    component = "store"


# ---- export ----------------------------------------------------------------------------------------------------------


async def export(store: Store, keys: Keys, *, numbers: bool = False) -> AsyncGenerator[bytes]:
    """Yield the lines of an export, some at a time. With `numbers`, ledger entries hold the number in clear.

    Raises `StoreUnavailable`.
    """
    newest, rows = await store.ping(), 0
    yield _encode(ExportHeader(keys=keys.mark, ledger=newest)) + b"\n"
    sealer = keys.ledger if numbers else None
    async for kind, batch in _contents(store, newest):
        rows += len(batch)
        yield b"".join(_line(kind, row, sealer) for row in batch)
    yield _encode(ExportLine(kind="end", row=msgspec.Raw(b"%d" % rows))) + b"\n"


def count_of(last_line: bytes) -> int:
    """Return the number of rows in an export. Raises `LedgerImportRefused` if the export is incomplete."""
    line = _decode(last_line, ExportLine)
    if line.kind != "end":
        raise LedgerImportRefused("the export is incomplete: export again")
    return _decode(line.row, int)


def _line(kind: Kind, row: Struct, sealer: Sealer | None) -> bytes:
    number = ""
    if sealer is not None and isinstance(row, Entry) and row.sealed:
        with suppress(KeysUnusable):
            number = sealer.unseal(row.sealed)
    return _encode(ExportLine(kind=kind, row=msgspec.Raw(_encode(row)), number=number)) + b"\n"


async def _contents(store: Store, newest: int) -> AsyncGenerator[tuple[Kind, Sequence[Struct]]]:
    """Yield all rows of a store in the order of `KINDS`, each kind in batches.

    Attempts and answers of later decisions than the positions are left out: crash recovery adds them from the log.
    """
    logs = await store.positions()
    yield (
        "position",
        [AttemptPosition(log, seq, durable=await store.recorded(log)) for log, seq in logs.items()],
    )

    def is_covered(decision: str) -> bool:
        return int(decision.rpartition("-")[2]) <= logs.get(log_of(decision), 0)

    async for attempts in store.counted_attempts():
        yield "attempt", [row for row in attempts if is_covered(row.attempt.decision)]
    async for answers in store.remembered_answers():
        yield "answer", [row for row in answers if is_covered(row.decision)]
    yield "list", await store.lists()
    yield "proof", await store.proofs()
    yield "delivery", await store.deliveries()
    yield "lift", await store.pause_lifts()
    yield "pause", list((await store.campaign_pauses()).values())
    yield "key", list((await store.client_keys()).values())
    yield "breach", await store.breaches()
    yield "law", await store.law_acknowledgements()
    yield "count", (await store.counts())[0]
    seq = 0
    while entries := [entry for entry in await store.since(seq, _BATCH_ROWS) if entry.seq <= newest]:
        yield "entry", entries
        seq = entries[-1].seq


# ---- import ----------------------------------------------------------------------------------------------------------


async def load(
    store: Store, keys: Keys, watermark: LedgerWatermark, lines: Iterator[bytes], now: Instant
) -> dict[Kind, int]:
    """Write an export to an empty store, compare the two, and return the number of rows of each kind.

    `lines` is read in a thread. No gate may run. Raises `LedgerImportRefused`, `StoreUnavailable` and `OSError`.
    """
    header = _decode(await asyncio.to_thread(next, lines, b""), ExportHeader)
    if header.keys != keys.mark:
        raise LedgerImportRefused(
            "the export was made with other keys: copy their `keys.json` to the data folder"
        )
    await _refuse_unless_empty(store, now)
    await watermark.expect(header.ledger)
    if isinstance(store, Shared):
        await store.begin_import()
    written = await _write(store, lines, header.ledger)
    stored: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
    async for kind, batch in _contents(store, header.ledger):
        stored[kind] |= _hashes(batch)
    if lost := [kind for kind in KINDS if kind != "position" and written[kind] - stored[kind]]:
        raise LedgerImportRefused(
            f"the store lacks rows of the export ({', '.join(lost)}): empty it and try again"
        )
    if isinstance(store, Shared):
        await store.end_import()
    return {kind: len(hashes) for kind, hashes in written.items()}


async def _refuse_unless_empty(store: Store, now: Instant) -> None:
    if isinstance(store, Shared):
        present = (await store.members()).present
        if any(now - presence.at < _RUNNING for presence in present):
            raise LedgerImportRefused("a gate has the store open: stop every gate on it")
    newest = await store.ping()
    async for _, batch in _contents(store, newest):
        if newest or batch:
            raise LedgerImportRefused(
                "the store is not empty: move `store.db` away, or set another `store.name`"
            )


async def _write(store: Store, lines: Iterator[bytes], newest: int) -> dict[Kind, set[int]]:
    """Write the rows of an export. Return the hashes of each kind."""
    hashes: dict[Kind, set[int]] = {kind: set() for kind in KINDS}
    logs: dict[str, AttemptPosition] = {}
    rows, seq, is_complete = 0, 0, False
    while batch := await asyncio.to_thread(
        lambda: [_decode(line, ExportLine) for line in islice(lines, _BATCH_ROWS)]
    ):
        for kind, some in groupby(batch, lambda line: line.kind):
            if kind == "end":
                is_complete = _decode(next(some).row, int) == rows
                break
            values: list[Any] = [_decode(line.row, TYPES[kind]) for line in some]
            rows += len(values)
            hashes[kind] |= _hashes(values)
            if kind == "position":
                logs |= {position.log: position for position in values}
            if kind == "entry":
                seq = await _enter(store, values, seq)
            else:
                await _write_rows(store, kind, values, logs)
    if not is_complete:
        raise LedgerImportRefused(
            "the file is incomplete: empty the store, export again and import that file"
        )
    for position in logs.values():
        await store.note_durable(position.log, position.durable)
    await _fill_gap(store, seq, newest)
    return hashes


async def _enter(store: Store, entries: Sequence[Entry], seq: int) -> int:
    """Append entries under their own sequence numbers, and return the last one. The ledger ends at `seq`."""
    run: list[Entry] = []  # without a gap
    for entry in entries:
        if entry.seq != seq + 1:
            await store.append(run)
            run = []
            await _fill_gap(store, seq, entry.seq - 1)
        run.append(entry)
        seq = entry.seq
    await store.append(run)
    return seq


async def _fill_gap(store: Store, seq: int, newest: int) -> None:
    """Append and erase entries, so that the ledger's newest sequence number rises from `seq` to `newest`."""
    while seq < newest:
        some = min(_BATCH_ROWS, newest - seq)
        await store.remove(await store.append([_FILLER] * some))
        seq += some


async def _settle(
    store: Store,
    position: AttemptPosition,
    attempts: Sequence[tuple[bytes, Attempt]] = (),
    answers: Sequence[Remembered] = (),
) -> None:
    await store.settle(position.log, position.seq, attempts, answers)
    if isinstance(store, Shared):  # a shared store takes missing attempts for a sign that it is an older copy
        await store.acknowledge(position.log, store.generation.number)


async def _write_attempts(
    store: Store, rows: Sequence[CountedAttempt], logs: Mapping[str, AttemptPosition]
) -> None:
    for log, some in _by_log(rows, lambda row: row.attempt.decision).items():
        await _settle(store, logs[log], [(row.subject, row.attempt) for row in some])
    results = [(row.attempt.decision, row.attempt.result, row.result_at) for row in rows if row.result_at]
    await asyncio.gather(*(store.result(*result) for result in results))


# How to write a row of each kind that needs no other rows.
_WRITERS: Final[Mapping[str, Callable[[Store, Any], Awaitable[object]]]] = {
    "position": _settle,
    "list": lambda store, row: store.add_list(row),
    "proof": lambda store, row: store.put_proof(row),
    "delivery": lambda store, row: store.put_delivery(row),
    "lift": lambda store, row: store.lift_pause(row),
    "pause": lambda store, row: store.put_pause(row),
    "key": lambda store, row: store.change_client_keys(row.client, row.merged),
    "breach": lambda store, row: store.change_breach(row.id, lambda _: row),
    "law": lambda store, row: store.add_law_acknowledgement(row),
}


async def _write_rows(
    store: Store, kind: Kind, rows: Sequence[Any], logs: Mapping[str, AttemptPosition]
) -> None:
    match kind:
        case "attempt":
            await _write_attempts(store, rows, logs)
        case "answer":
            for log, some in _by_log(rows, lambda row: row.decision).items():
                await _settle(store, logs[log], answers=some)
        case "count":
            await store.put_counts(rows)  # in place of those that the results of attempts gave
        case _:
            for row in rows:
                await _WRITERS[kind](store, row)


def _by_log(rows: Sequence[_Row], decision: Callable[[_Row], str]) -> dict[str, list[_Row]]:
    groups: dict[str, list[_Row]] = {}
    for row in rows:
        groups.setdefault(log_of(decision(row)), []).append(row)
    return groups


def _decode(line: bytes | msgspec.Raw, kind: type[_Row]) -> _Row:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise LedgerImportRefused(
            f"the file is not an export of this version of dialgate: {error}"
        ) from error


def _hashes(rows: Sequence[Struct]) -> set[int]:
    # Not their JSON, in which equal rows can differ: msgspec omits a default only if it is the same object.
    return {int.from_bytes(blake2b(repr(row).encode(), digest_size=8).digest()) for row in rows}
