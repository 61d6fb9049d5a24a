"""Response bodies that show the ledger entries and consents of a number, and the files that prove consents."""

from typing import Any, Final, Literal

from msgspec import Struct

from dialgate.core.model import CallType, ConsentForm, OtherProof, Purpose, Stated
from dialgate.core.text_formats import OptionalReasonCode, OptionalTimestamp, Timestamp


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """A ledger entry. If no call can use it as a legal basis, `opens_nothing` says why."""

    seq: int
    at: Timestamp
    kind: str
    controller: str
    actor: str
    channel: str
    proof: str
    details: dict[str, Any]
    opens_nothing: str = ""


class Exports(Struct, frozen=True):
    """The recorded copies of lists with verdicts."""

    exports: list[HistoryEntry]


class ConsentStanding(Struct, frozen=True, kw_only=True):
    """The current state of a consent.

    `proved` is true if an artefact and its hash are recorded. `other_proofs` lists the other complete proofs, which count
    only where the law accepts them. Times that are not recorded are empty.
    `last_used_at` is the time of the last permitted call based on the consent. If a call based on the consent would
    be denied now, `reason` is the reason code. `refused_for` lists the campaigns that the consent covers but that
    cannot use it, for example after a revocation for one campaign. `place` is the subdivision of the declared address.
    """

    id: str
    proved: bool
    purposes: tuple[Purpose, ...]
    call_types: tuple[CallType, ...]
    goods: tuple[str, ...]
    profiling: bool
    third_party: bool
    double_opt_in: bool
    form: ConsentForm | Literal[""]
    states: tuple[Stated, ...]
    collected_at: Timestamp
    confirmed_at: OptionalTimestamp
    renewed_at: OptionalTimestamp
    expires_at: OptionalTimestamp
    withdrawn_at: OptionalTimestamp
    voided_at: OptionalTimestamp
    last_used_at: OptionalTimestamp
    reason: OptionalReasonCode = ""
    refused_for: tuple[str, ...] = ()
    place: str = ""
    other_proofs: tuple[OtherProof, ...] = ()


# An hour of a recorded call in telephone quality has 14 MB. Evidence encloses the whole file.
MOST_PROOF_MB: Final = 16


class ProofFile(Struct, frozen=True, kw_only=True):
    """A file that is kept. Record the consent with its `sha256` as `artefact_sha256` by `record_by`, or the file may be removed."""

    sha256: str
    bytes: int
    record_by: Timestamp
