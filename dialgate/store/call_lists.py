"""Call lists, and proofs that a caller ID can be called back."""

from typing import Protocol

from msgspec import Struct

from dialgate.core.model import Basis, Instant, Origin


class CallList(Struct, frozen=True, kw_only=True):
    """A loaded call list. `file`: the number set that holds its numbers; a tag is an index into `bases`. `stated`: for each
    basis, whether the rows themselves said `directory`; empty for a list loaded by an earlier version."""

    id: str
    controller: str
    campaigns: tuple[str, ...]
    bases: tuple[Basis, ...]
    origin: Origin
    file: str
    sha256: str
    numbers: int
    loaded_at: Instant
    actor: str
    retired_at: Instant = 0
    stated: tuple[bool, ...] = ()


class CallerIdProof(Struct, frozen=True, kw_only=True):
    """The result of a call back to `caller_id` at `at`. `answered`: whether it was answered, or attested to be."""

    controller: str
    caller_id: str
    at: Instant
    kind: str
    answered: bool = True
    evidence: str = ""
    actor: str = ""


class CallLists(Protocol):
    """The call lists and the caller-ID proofs of every controller."""

    async def lists(self) -> list[CallList]: ...

    async def add_list(self, call_list: CallList) -> bool:
        """Return False, with nothing written, if the controller has a list of this id, retired or not."""

    async def replace_list(self, call_list: CallList, sha256: str) -> bool:
        """Replace the file of the list of this controller and id, if its current file has the checksum `sha256`. The list's
        other fields stay as they are."""

    async def retire_list(self, controller: str, name: str, at: Instant) -> CallList | None:
        """Return the list after its retirement, with the instant of the first one; None if it does not exist."""

    async def proofs(self) -> list[CallerIdProof]:
        """Return the newest proof of each (controller, caller ID)."""

    async def put_proof(self, proof: CallerIdProof) -> None: ...
