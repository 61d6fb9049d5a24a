"""The ledger in Redis.

Entries are stored in the value of their subject. An index maps each sequence to its subject.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

from dialgate.core.ledger_events import Draft, Entry
from dialgate.store import ledger_too_short
from dialgate.store.encoded_entries import AnyDraft, EncodedEntry
from dialgate.store.redis import subject_codec
from dialgate.store.redis.commands import RedisCommands

PLACES: Final = 4_096  # subjects in one chunk of the index
SUBJECT_BYTES: Final = 16
_AT_ONCE: Final = 512


class RedisLedger:
    def __init__(self, commands: RedisCommands) -> None:
        self._commands = commands

    async def append(self, drafts: Sequence[AnyDraft]) -> list[int]:
        if not drafts:
            await self._commands.run_durably([self._commands.ping()])
            return []
        return await self._write(drafts, {}, ()) or []

    async def remove(self, seqs: Sequence[int], drafts: Sequence[Draft] = ()) -> list[int]:
        """Remove entries. Their bytes stay in Redis's append-only file until Redis rewrites this file."""
        while True:
            subject_by_seq = await self._subjects_by_seq(seqs)
            subjects = list(dict.fromkeys(subject_by_seq.values()))
            values = await self._commands.values(subjects)
            swaps = {
                subject: (value, subject_codec.without_entries(value, subject_by_seq.keys()))
                for subject, value in zip(subjects, values, strict=True)
            }
            appended = await self._write(drafts, swaps, list(subject_by_seq))
            if appended is not None:
                return appended

    async def _write(
        self, drafts: Sequence[AnyDraft], swaps: Mapping[bytes, tuple[bytes, bytes]], removed: Sequence[int]
    ) -> list[int] | None:
        """Append drafts, replace values and remove entries in one step.

        Return None and write nothing if a value has changed.
        """
        if any(len(draft.subject) != SUBJECT_BYTES for draft in drafts):
            raise ValueError(f"a ledger subject must be {SUBJECT_BYTES} bytes long")
        keys = [
            self._commands.of_ledger,
            self._commands.of_keys,
            *(self._commands.of_subject + of for of in chain((draft.subject for draft in drafts), swaps)),
        ]
        known = self._commands.durable
        values: list[Any] = [
            self._commands.mark or b"",
            known,
            self._commands.key("o:"),
            PLACES,
            len(drafts),
            *map(subject_codec.line_after_seq, drafts),
        ]
        for old, new in swaps.values():
            values += (old, new, self._commands.lifetime(new))
        first = await self._commands.script("ledger", keys, [*values, *removed])
        if first is None:
            return None
        if isinstance(first, list):
            raise ledger_too_short(first[0], known)
        self._commands.require_seq(first + len(drafts) - 1)
        return list(range(first, first + len(drafts)))

    async def _subjects_by_seq(self, seqs: Sequence[int]) -> dict[int, bytes]:
        """Return the subject for each sequence that has an entry."""
        places = [(seq, *divmod(seq - 1, PLACES)) for seq in seqs if seq > 0]
        chunks = await self._commands.together(
            [
                (
                    "GETRANGE",
                    self._commands.key("o:", b"%d" % chunk),
                    at * SUBJECT_BYTES,
                    (at + 1) * SUBJECT_BYTES - 1,
                )
                for _, chunk, at in places
            ]
            or [("PING",)]
        )
        return {
            seq: subject for (seq, _, _), subject in zip(places, chunks, strict=False) if subject.strip(b"\0")
        }

    async def history(self, subject: bytes) -> list[Entry]:
        return [entry.decoded() for entry in (await self.histories([subject])).get(subject, [])]

    async def histories(self, subjects: Sequence[bytes]) -> dict[bytes, list[EncodedEntry]]:
        found: dict[bytes, list[EncodedEntry]] = {}
        for start in range(0, len(subjects), _AT_ONCE):
            batch = subjects[start : start + _AT_ONCE]
            values = zip(batch, await self._commands.values(batch), strict=True)
            found |= {
                subject: entries
                for subject, value in values
                if value and (entries := subject_codec.encoded_entries(value, subject))
            }
        return found

    async def since(self, seq: int, limit: int) -> list[Entry]:
        newest, entries = int(await self._commands.run("GET", self._commands.key("seq")) or 0), list[Entry]()
        seq = max(seq, 0)
        while seq < newest and len(entries) < limit:
            chunk, at = divmod(seq, PLACES)
            span = min(PLACES - at, newest - seq, max(limit - len(entries), _AT_ONCE))
            first, last = at * SUBJECT_BYTES, (at + span) * SUBJECT_BYTES - 1
            entries += await self._entries_of(
                seq + 1,
                await self._commands.run("GETRANGE", self._commands.key("o:", b"%d" % chunk), first, last),
            )
            seq += span
        return entries[:limit]

    async def _entries_of(self, first: int, raw: bytes) -> list[Entry]:
        """Return the entries from sequence `first` on.

        `raw` contains the subjects of these entries, concatenated in order.
        """
        subjects = [raw[at : at + SUBJECT_BYTES] for at in range(0, len(raw), SUBJECT_BYTES)]
        subject_by_seq = {seq: subject for seq, subject in enumerate(subjects, first) if subject.strip(b"\0")}
        distinct = list(dict.fromkeys(subject_by_seq.values()))
        found: dict[int, Entry] = {}
        for subject, value in zip(distinct, await self._commands.values(distinct), strict=True):
            found |= {entry.seq: entry for entry in subject_codec.entries(value, subject)}
        return [found[seq] for seq in subject_by_seq if seq in found]
