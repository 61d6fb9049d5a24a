"""Many requests in one body, each a line of JSON: consents, contracts, call requests or revocations.

A line is the body of the request for one entry, and has the same effect and the same answer. Only a revocation that is in force
already is not written again, as in a file. Lines are answered in order, each once its entry is durable. After an interruption,
send the same lines again: an entry that is in the ledger is not written again, and its line gets the receipt of that entry.
"""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import IO, Any, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from dialgate.config.clients import Client
from dialgate.core.ledger_events import Draft, Entry
from dialgate.core.refusal import Refused
from dialgate.ledger import bulk_import, request_decoding
from dialgate.ledger.file_import import AHEAD, AT_ONCE, FileKind
from dialgate.ledger.registrar import Registrar
from dialgate.ledger.repeated_names import find_repeated, find_repeated_at_top
from dialgate.ledger.schemas import Receipt
from dialgate.store.encoded_entries import EncodedEntry, encoded

LineKind: TypeAlias = Literal["consent", "contract", "call_request", "revocation"]
MOST_LINES: Final = 100_000
_encode: Final = msgspec.json.Encoder().encode
_fields: Final = msgspec.json.Decoder(dict[str, Any])


class _Requests(Struct, frozen=True):
    """What one kind of request does.

    `read` returns the drafts of a line, with a note for the client. Raises `Refused`. `file_kind` returns the kind of file that
    decides whether the ledger has a draft already. `receipt` returns the answer from the last draft, the entries of its number and
    the note. Raises `Refused` if none of the entries has its effect.
    """

    read: Callable[[bytes], tuple[list[Draft], str]]
    file_kind: Callable[[Draft], FileKind]
    receipt: Callable[[Draft, list[Entry], str], Receipt]


class _Line(Struct, frozen=True):
    drafts: list[Draft]
    note: str
    refused: Refused | None = None


class _Part(Struct, frozen=True):
    """Lines whose entries are being written, with the subjects of these."""

    lines: list[_Line]
    subjects: set[bytes]
    writing: "asyncio.Future[Sequence[int]]"


class LineWriter:
    """Writes the entries of lines, and calls `answer` with the answers to some lines at a time."""

    def __init__(
        self, registrar: Registrar, client: Client, kind: LineKind, answer: Callable[[bytes], None]
    ) -> None:
        self._access, self._answer = registrar.access, answer
        self._requests = _requests(registrar, client, kind)
        self._most_bytes = registrar.config.settings.limits.body_bytes
        self._parts = deque[_Part]()

    async def write(self, file: IO[bytes]) -> int:
        """Write the entries of all lines, and return how many lines there are. Raises `Refused` and `StoreUnavailable`.

        A part is prepared while earlier parts are still being written, unless it has entries about the same numbers. Nothing is
        written if there are too many lines.
        """
        if (count := sum(1 for line in file if line.strip())) > MOST_LINES:
            text = f"The body has {count:,} lines. Send at most {MOST_LINES:,} in one request."
            raise Refused("request.too_large", text, status=413)
        file.seek(0)
        lines = filter(bytes.strip, file)
        try:
            while part := list(islice(lines, AT_ONCE)):
                await self._begin([self._read(line) for line in part])
                while len(self._parts) >= AHEAD or (self._parts and self._parts[0].writing.done()):
                    await self._finish()
            while self._parts:
                await self._finish()
        finally:
            if self._parts:
                await asyncio.wait([part.writing for part in self._parts])
        return count

    def _read(self, line: bytes) -> _Line:
        if len(line) > self._most_bytes:
            text = "The line exceeds the setting `limits.body_bytes`. Split it, or raise the setting."
            return _Line([], "", Refused("request.too_large", text, status=413))
        try:
            return _Line(*self._requests.read(line))
        except Refused as refused:
            return _Line([], "", refused)

    async def _begin(self, lines: list[_Line]) -> None:
        """Begin to write the entries of some lines that the ledger does not have."""
        drafts = [draft for line in lines for draft in line.drafts]
        subjects = {draft.subject for draft in drafts}
        while any(not subjects.isdisjoint(part.subjects) for part in self._parts):
            await self._finish()
        by_kind = defaultdict[FileKind, list[EncodedEntry]](list)
        for draft in drafts:
            by_kind[self._requests.file_kind(draft)].append(encoded(draft))
        new = [
            entry
            for kind, alike in by_kind.items()
            for entry in await kind.new(self._access.store, alike, Counter())
        ]
        self._parts.append(_Part(lines, subjects, asyncio.ensure_future(self._access.append_all(new))))
        await asyncio.sleep(0)  # start the task now

    async def _finish(self) -> None:
        """Answer the oldest lines once their entries are durable."""
        part = self._parts[0]
        await part.writing
        self._parts.popleft()
        histories = await self._access.store.histories(list(part.subjects))
        self._answer(b"".join(self._answer_to(line, histories) + b"\n" for line in part.lines))

    def _answer_to(self, line: _Line, histories: Mapping[bytes, list[EncodedEntry]]) -> bytes:
        refused = line.refused
        if refused is None:
            draft = line.drafts[-1]
            history = [entry.decoded() for entry in histories.get(draft.subject, ())]
            try:
                return _encode(self._requests.receipt(draft, history, line.note))
            except Refused as left_out:
                refused = left_out
        return _encode({"error": {"code": refused.code, "message": refused.message, "field": refused.field}})


def _requests(registrar: Registrar, client: Client, kind: LineKind) -> _Requests:
    if kind == "revocation":
        stops = registrar.revocations
        return _Requests(
            lambda line: stops.drafts(client, _decode(_fields, line)), stops.file_kind, stops.receipt
        )
    consents, request = registrar.consents, bulk_import.KINDS[kind]
    decoder, file_kind = msgspec.json.Decoder(request), bulk_import.EntryFile(request, ())
    return _Requests(
        lambda line: consents.drafts(client, _decode(decoder, line)), lambda _: file_kind, consents.receipt
    )


def _decode(decoder: msgspec.json.Decoder[Any], line: bytes) -> Any:
    is_flat = line.count(b"{") == 1
    return request_decoding.decode(decoder, line, find_repeated_at_top if is_flat else find_repeated)
