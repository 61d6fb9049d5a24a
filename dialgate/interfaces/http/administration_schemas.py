"""Request and response bodies of the administration of a gate."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct, field

from dialgate.audit.key_retirement import Month
from dialgate.audit.legal_holds import LegalHold
from dialgate.audit.log_proof import LogProof
from dialgate.audit.lookups import LookupReason
from dialgate.core.model import Phrase
from dialgate.core.responses import when
from dialgate.core.text_formats import OptionalTimestamp, Timestamp
from dialgate.ledger.schemas import Id, Name, Telephone, When, Words, described
from dialgate.subjects.expiry import Removal
from dialgate.subjects.removal_records import RemovalRecord
from dialgate.texts import Language

EvidenceForm: TypeAlias = Literal["ndjson", "zip"]
LookupKind: TypeAlias = Literal["decisions", "reconciliation"]


class RetentionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    dry_run: Annotated[bool, described("Show what would be removed, and remove nothing.")] = False


class RetentionResult(Struct, frozen=True):
    removed: bool
    kinds: list[Removal]


class RemovalList(Struct, frozen=True):
    """The newest runs of this gate first, at most 100."""

    runs: list[RemovalRecord]


class HoldRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    number: Telephone
    reason: Words
    by: Phrase = ""


class HoldInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A legal hold. `records` are the number's decisions in months that were retired meanwhile, `number` is masked."""

    id: int
    at: Timestamp
    by: str
    reason: str
    records: tuple[str, ...] = ()
    lifted_at: OptionalTimestamp = ""
    lifted_by: str = ""
    lifted_because: str = ""
    number: str = ""

    @classmethod
    def from_hold(cls, hold: LegalHold, masked: str) -> "HoldInfo":
        fields = {name: getattr(hold, name) for name in cls.__struct_fields__}
        return cls(**fields | {"at": when(hold.at), "lifted_at": when(hold.lifted_at), "number": masked})


class HoldList(Struct, frozen=True):
    holds: list[HoldInfo]


class HoldChange(Struct, frozen=True):
    """A changed hold. `missing` is empty, because holds are in the store."""

    hold: HoldInfo | None
    missing: dict[str, str]


class RetirementRequest(Struct, frozen=True, forbid_unknown_fields=True):
    dry_run: Annotated[bool, described("Show which months are over, and destroy nothing.")] = False
    months: Annotated[
        tuple[str, ...], described("Only these of the months that are over, such as 2024-11. Default: all.")
    ] = ()


class Retirement(Struct, frozen=True):
    """The months whose retention period is over, and those that are kept. `retired`: the keys of `months` are destroyed."""

    retired: bool
    months: list[Month]
    kept: list[Month]


class LogVerification(Struct, frozen=True):
    """The last verification of all logs of this gate, if there was one."""

    last: LogProof | None


class SigningKey(Struct, frozen=True):
    key: str


class NodeInfo(Struct, frozen=True, kw_only=True):
    """A gate on the store. `at` is when it was last heard. `problem` is empty, or `silent` or `on an old …`."""

    node: str
    problem: str
    version: str
    config: str
    laws: dict[str, str]
    at: Timestamp


class NodeList(Struct, frozen=True):
    ok: bool
    nodes: list[NodeInfo]


class LookupsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers whose data the client reads outside the gate, for example in files."""

    numbers: Annotated[tuple[Telephone, ...], Meta(min_length=1)]
    purpose: LookupReason
    what: LookupKind = "reconciliation"
    controller: str = ""


class EvidenceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for evidence about one `decision`, or about `numbers`. `since` and `until` need `numbers`."""

    purpose: LookupReason
    decision: Id | None = None
    numbers: tuple[Telephone, ...] = ()
    since: When | None = None
    until: When | None = None
    form: Annotated[
        EvidenceForm,
        described(
            "`zip` packs the bundles, the verifier, a report and a cover letter. It needs `numbers` and `addressee`."
        ),
    ] = field(default="ndjson", name="format")
    language: Annotated[Language, described("Language of report and letter.")] = "it"
    controller: Annotated[
        str, described("Who signs the letter. Required only if the client has several controllers.")
    ] = ""
    addressee: Annotated[
        str, Meta(max_length=512, description="Name and address of the authority, in lines.")
    ] = ""
    place: Annotated[Name, described("Place, for the letter.")] = ""
    protocol: Annotated[Name, described("Protocol number, for the letter.")] = ""
