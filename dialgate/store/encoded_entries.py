"""Ledger entries whose events are JSON. An import compares and writes a million of them without decoding one."""

from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, structs

from dialgate.core.ledger_events import Draft, Entry, Event
from dialgate.core.model import Instant
from dialgate.store.faults import StoreUnavailable

_encode: Final = msgspec.json.Encoder().encode
_TAG: Final = len('{"type":"')
_decode: Final = msgspec.json.Decoder(Event).decode


class EncodedEntry(Struct, frozen=True, array_like=True, gc=False):
    """An entry as a store holds it, or the draft of one, whose `seq` is 0. The fields are those of `Entry`.

    The last three have no effect on calls. `Ledger.histories` leaves them empty.
    """

    seq: int
    subject: bytes
    at: Instant
    channel: str
    proof: str
    event: str
    controller: str = ""
    actor: str = ""
    sealed: bytes = b""

    def decoded(self) -> Entry:
        """Decode the event. Raises `StoreUnavailable` for one of a newer version."""
        try:
            event = _decode(self.event)
        except msgspec.DecodeError as error:
            raise StoreUnavailable(
                f"Unrecognised entry, written by a newer dialgate or another program: {error}"
            ) from error
        return Entry(**structs.asdict(self) | {"event": event})


AnyDraft: TypeAlias = Draft | EncodedEntry


def encoded(draft: AnyDraft) -> EncodedEntry:
    if isinstance(draft, EncodedEntry):
        return draft
    event = _encode(draft.event).decode()
    return EncodedEntry(
        0, draft.subject, draft.at, draft.channel, draft.proof, event, draft.controller, draft.actor, draft.sealed
    )  # fmt: skip


def kind_of(draft: AnyDraft) -> str:
    """Return the tag of a draft's event, with which its JSON begins."""
    event = encoded(draft).event
    return event[_TAG : event.index('"', _TAG)]
