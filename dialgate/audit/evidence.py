r"""The evidence bundle: a one-line file with everything needed to check decisions without the gate.

    {"signature":"<128 hex digits>","key":"<64 hex digits>","evidence":<body>}\n

`key` is the raw public key of the log's signing key. The signature is Ed25519 over "dialgate evidence\n" followed by
the body as stored, so no byte can be changed or added. The body is a JSON object:

    log, made_at        the log's name, and when the bundle was made
    decisions           for each decision: id, sequence number, sequence number of its grounds, and the called number in
                        clear text (null if the request did not contain the called number and the month's keys are
                        destroyed); the registry consultations and consents that the facts name, with receipt, artefact
                        and hash, if still stored; for consents, only entries known to the decision, with the time of
                        entry, including entries that an erasure restricted; the sequence numbers of the entries that
                        report the call's outcome
    asked               for a request about numbers: each number with the ids of its decisions
    entries             decisions, grounds and outcome reports as stored in the log, each with the index of its
                        checkpoint and the Merkle path to that checkpoint's root (RFC 6962, 2.1.1)
    checkpoints, keys   checkpoints as stored in the log, and the public keys that signed them, by name
    kept                texts by their SHA-256: the law and the configuration's file list
                        (`dialgate.config.content_store`) that the grounds name. The configuration's files are left out,
                        except the law and the controller's own file
    manifest            the manifest of the registry answers, if a decision was made with the answers that are still in
                        use. Files for other controllers are left out. If there are such files, the manifest has no
                        signature
    covered             the sequence number of the last entry that a checkpoint covers; outcome reports after that entry
                        are not in the bundle
    elsewhere           outcomes reported to other logs, also those that other nodes shipped, with each log's name, entries
                        and checkpoints, as above
    since, until        for a request about numbers: the requested period of the decisions (since <= time < until)
    proofs, left_out    the files of the consents that this gate keeps (base64), by SHA-256; why others of them are not enclosed
    stamps              RFC 3161 time stamps (DER, base64), each with the index of its checkpoint. A stamp covers the
                        checkpoint's line, including the line break

A decision is proved by the first checkpoint that covers it. If a time-stamped checkpoint follows within a day, the
time-stamped checkpoint is used instead. Entries prove what the log contained when the checkpoint was signed. The
bundle proves neither that a number in clear text belongs to its record, nor what a receipt contains. The keys that
would prove these facts also decrypt records about other people, so the bundle does not contain the keys, and the
reader must trust the signer.
Fields are only appended; any other change increments `format`.
`dialgate/tools/verifier/verify_evidence.py` checks all of this without this package.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field, structs

from dialgate.audit.enclosed_files import enclose
from dialgate.audit.evidence_sources import Sources
from dialgate.audit.legal_holds import Holds
from dialgate.audit.number_history import Published, consultations_of, published_consultations
from dialgate.config import content_store
from dialgate.core.decision_ids import log_of
from dialgate.core.ledger_events import ConsentGiven
from dialgate.core.model import Instant
from dialgate.core.struct_copies import copy_fields
from dialgate.crypto.keys import KeyRetired
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import StoredCheckpoint, span
from dialgate.decision_log.inclusion_proofs import Chain, NoEvidence, Proofs, Proved
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.timestamps import timestamps
from dialgate.lists.manifest import Manifest, SnapshotMissing, read_manifest
from dialgate.lists.number_set import DamagedFile
from dialgate.lists.snapshot import Consultation
from dialgate.store.subjects import SubjectStore

FORMAT: Literal[2] = 2
_NEVER: Instant = 1 << 62


class Consented(Struct, frozen=True, kw_only=True):
    id: str
    text_version: str
    artefact: str
    artefact_sha256: str
    recorded_at: Instant  # when the entry was written, by the gate's clock
    certificate_url: str = ""
    certificate_claim: str = ""
    crm_reference: str = ""
    attested_by: str = ""
    attested_at: Instant = 0


class ProvedCall(Struct, frozen=True, kw_only=True):
    id: str
    seq: int
    grounds: int
    number: str | None
    consultations: list[Consultation]
    consents: list[Consented]
    outcomes: list[int]


class Stamp(Struct, frozen=True, kw_only=True):
    checkpoint: int
    response: bytes


class NumberDecisions(Struct, frozen=True, kw_only=True):
    number: str
    decisions: list[str]


class Elsewhere(Struct, frozen=True, kw_only=True):
    log: str
    entries: list[Proved]
    checkpoints: list[dict[str, str]]


class Bundle(Struct, frozen=True, kw_only=True):
    format: Literal[2] = FORMAT
    log: str
    made_at: Instant
    decisions: list[ProvedCall] = []
    asked: list[NumberDecisions] = []
    entries: list[Proved] = []
    checkpoints: list[dict[str, str]] = []
    keys: dict[str, str] = {}
    kept: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    covered: int = 0
    stamps: list[Stamp] = []
    elsewhere: list[Elsewhere] = []
    since: Instant | None = None
    until: Instant | None = None
    proofs: dict[str, bytes] = {}
    left_out: dict[str, str] = {}


class _Sealed(Struct):
    evidence: Bundle


class KnownDecision(Struct, frozen=True):
    """A decision, with the called number if the request contained that number.

    Once the keys for the month are destroyed, the number cannot be read from the record.
    """

    record: Record
    number: str | None = None


async def bundle_decision(sources: Sources, decision: str, now: Instant) -> bytes:
    """Return the evidence bundle for one decision.

    Raises `NoEvidence`, `LogDamaged`, `KeysUnusable`, `StoreUnavailable`.
    """
    record = _find(sources, decision)
    if record is None:
        raise NoEvidence(
            f"there is no decision {decision} in the log {sources.keys.log}. Check the decision id."
        )
    return await _bundle(sources, [KnownDecision(record)], Bundle(log=sources.keys.log, made_at=now))


async def bundle_numbers(
    sources: Sources,
    numbers: Sequence[str],
    now: Instant,
    since: Instant | None = None,
    until: Instant | None = None,
) -> bytes:
    """Return the evidence bundle for all decisions about these numbers (E.164) with `since` <= time < `until`.

    The bundle includes decisions from retired months that are under a legal hold, and lists the numbers without a
    decision. Raises `HoldRefused` and the same errors as `bundle_decision`.
    """
    number_of = {hashed: number for number in numbers for hashed in sources.keys.hashes(number).values()}
    records = [record for _, record in Reader(sources.folder).find_decisions(frozenset(number_of))]
    by_id = {record.id: KnownDecision(record, number_of[record.number]) for record in records}
    by_id |= {known.record.id: known for known in _under_hold(sources, numbers)}
    decisions = [known for known in by_id.values() if (since or 0) <= known.record.at < (until or _NEVER)]
    ids = {number: [call.record.id for call in decisions if call.number == number] for number in numbers}
    asked = [NumberDecisions(number=number, decisions=of_number) for number, of_number in ids.items()]
    body = Bundle(log=sources.keys.log, made_at=now, asked=asked, since=since, until=until)
    return await _bundle(sources, decisions, body)


def _under_hold(sources: Sources, numbers: Iterable[str]) -> Iterator[KnownDecision]:
    holds = Holds(sources.data, sources.keys)
    for number in numbers:
        hold = holds.find(number)
        for record in (_find(sources, decision) for decision in (hold.records if hold else ())):
            if record is not None:
                yield KnownDecision(record, number)


def _find(sources: Sources, decision: str) -> Record | None:
    decision = sources.keys.ids.inside(decision)
    seq = span.sequence(decision) if log_of(decision) == sources.keys.log else None
    record = Reader(sources.folder).find(seq) if seq is not None else None
    return record if isinstance(record, Record) and record.id == decision else None


def numbers_in(bundle: bytes) -> set[str]:
    """Return the called numbers that the bundle contains in clear text."""
    findings = msgspec.json.decode(bundle, type=_Sealed).evidence.decisions
    return {finding.number for finding in findings if finding.number}


def decisions_in(bundle: bytes) -> set[str]:
    return {finding.id for finding in msgspec.json.decode(bundle, type=_Sealed).evidence.decisions}


async def _bundle(sources: Sources, decisions: Sequence[KnownDecision], request: Bundle) -> bytes:
    """Add the decisions and their proofs to `request`, and return the signed bundle."""
    records = [known.record for known in decisions]
    stamps = {stamp.checkpoint: stamp.response for stamp in timestamps(sources.folder)}
    chain = Chain(sources.folder)
    outcomes = _outcomes(chain, records)
    proofs = chain.prove(_proved_together(records, outcomes), stamps.keys())
    elsewhere = [
        reports for folder in sources.others if (reports := _elsewhere(Chain(folder), records)) is not None
    ]
    used = [*proofs.used, *(checkpoint for _, other in elsewhere for checkpoint in other.used)]
    findings = await _findings(sources, decisions, outcomes)
    named = [
        (record.facts.controller.id, consent.artefact_sha256)
        for record, finding in zip(records, findings, strict=True)
        for consent in finding.consents
    ]
    files, left_out = enclose(sources, named)
    bundle = structs.replace(
        request,
        decisions=findings,
        proofs=files,
        left_out=left_out,
        entries=proofs.entries,
        checkpoints=proofs.checkpoints(),
        keys=_public_keys(sources.public, used),
        kept=dict(_kept_texts(sources.kept, records, is_copy=sources.kept != sources.data / "kept")),
        manifest=_manifest(sources.data / "snapshots", records),
        covered=chain.covered,
        stamps=[
            Stamp(checkpoint=index, response=stamps[checkpoint.line_hash])
            for index, checkpoint in enumerate(proofs.used)
            if checkpoint.line_hash in stamps
        ],
        elsewhere=[
            Elsewhere(log=log, entries=other.entries, checkpoints=other.checkpoints())
            for log, other in elsewhere
        ],
    )
    return _sealed(msgspec.json.encode(bundle), sources.signer)


def _elsewhere(chain: Chain, records: Sequence[Record]) -> tuple[str, Proofs] | None:
    """Return the name of the log in `chain`, and proofs of its outcome reports about the decisions in `records`.

    Return None if no checkpoint covers an outcome report about any of the decisions.
    """
    seqs = [seq for reports in _outcomes(chain, records).values() for seq in reports]
    return (chain.log, chain.prove([(seq,) for seq in seqs])) if seqs else None


def _outcomes(chain: Chain, records: Sequence[Record]) -> dict[str, list[int]]:
    """Map decision ids to the sequence numbers of their outcome reports. Skip reports that no checkpoint covers."""
    seqs: dict[str, list[int]] = {}
    for report in sorted(
        Reader(chain.folder).reports({record.id for record in records}), key=attrgetter("seq")
    ):
        if report.seq <= chain.covered:
            seqs.setdefault(report.decision, []).append(report.seq)
    return seqs


def _proved_together(records: Sequence[Record], outcomes: Mapping[str, list[int]]) -> list[tuple[int, ...]]:
    """Group the entries that one checkpoint must prove: each decision with its grounds, and each outcome on its own."""
    reports = [(seq,) for seqs in outcomes.values() for seq in seqs]
    return [*((record.grounds, record.seq) for record in records), *reports]


def _sealed(body: bytes, signer: Signer) -> bytes:
    signature = signer.sign(b"dialgate evidence\n" + body).hex().encode()
    key = signer.public[signer.name].hex().encode()
    return b'{"signature":"%b","key":"%b","evidence":%b}\n' % (signature, key, body)


def _public_keys(public: Mapping[str, bytes], used: Iterable[StoredCheckpoint]) -> dict[str, str]:
    names = {stored.checkpoint.key for stored in used}
    if unknown := names - public.keys():
        raise NoEvidence(
            f"a checkpoint is signed by the unknown key {', '.join(unknown)}. Run `dialgate log verify`."
        )
    return {name: public[name].hex() for name in sorted(names)}


# ---- what a record refers to -----------------------------------------------------------------------------------------


async def _findings(
    sources: Sources, decisions: Iterable[KnownDecision], outcomes: Mapping[str, list[int]]
) -> list[ProvedCall]:
    subjects = SubjectStore.open(sources.data / "subjects.db")
    published = published_consultations(sources.data / "snapshots")
    try:
        return [
            await _finding(sources, subjects, published, known, outcomes.get(known.record.id, []))
            for known in decisions
        ]
    finally:
        await subjects.close()


async def _finding(
    sources: Sources, subjects: SubjectStore, published: Published, known: KnownDecision, outcomes: list[int]
) -> ProvedCall:
    record, number = known.record, known.number
    with suppress(KeyRetired):
        number = number or sources.keys.month(record.at).called_number(record.sealed)
    return ProvedCall(
        id=record.id,
        seq=record.seq,
        grounds=record.grounds,
        number=number,
        consultations=list(consultations_of(record, published).values()),
        consents=[] if number is None else await _consents(sources, subjects, record, number),
        outcomes=outcomes,
    )


async def _consents(sources: Sources, subjects: SubjectStore, record: Record, number: str) -> list[Consented]:
    """Return the consents that the record names, as recorded before the decision, oldest first.

    These include entries that an erasure on this node restricted (GDPR art. 17(3)(e)).
    """
    known = record.facts.known
    ids = {consent.id for consent in known.consents}
    if not ids:
        return []
    subject = sources.keys.subject(record.facts.controller.id, number)
    history = await sources.store.history(subject)
    restricted = [row.unseal(sources.keys.ledger) for row in await subjects.restricted(subject)]
    entries = {entry.seq: entry for entry in (*restricted, *history)}  # an interrupted erasure leaves both
    return [
        copy_fields(event, Consented, recorded_at=entry.at)
        for seq, entry in sorted(entries.items())
        if seq <= known.seq and isinstance(event := entry.event, ConsentGiven) and event.id in ids
    ]


def _manifest(folder: Path, records: Sequence[Record]) -> Manifest | None:
    try:
        manifest = read_manifest(folder)
    except (SnapshotMissing, DamagedFile):
        return None
    if manifest.version not in {record.snapshot for record in records}:
        return None
    owners = {"", *(record.facts.controller.id for record in records)}
    files = tuple(file for file in manifest.files if file.controller in owners)
    return manifest if files == manifest.files else structs.replace(manifest, files=files, signature="")


def _kept_texts(folder: Path, records: Sequence[Record], *, is_copy: bool) -> Iterator[tuple[str, str]]:
    """Yield the laws and configurations that the records name, each with its digest.

    Files for other controllers are omitted. Raises `NoEvidence` if archived content is missing or modified.
    """
    laws = {record.law for record in records}
    try:
        for config in sorted({record.config for record in records}):
            owners = {record.facts.controller.id for record in records if record.config == config} - {""}
            yield config, content_store.content(folder, config).decode()
            for file in content_store.config_files(folder, config):
                if (
                    is_copy and not (folder / file.digest).exists()
                ):  # a node ships only laws and controllers' files
                    continue
                raw = content_store.content(folder, file.digest)
                if file.digest in laws or content_store.controller_of(raw) in owners:
                    yield file.digest, raw.decode()
                    yield file.entry, f"{file.name} {file.digest}"
        for law in sorted(laws):
            yield law, content_store.content(folder, law).decode()
    except (content_store.NotKept, UnicodeDecodeError) as error:
        raise NoEvidence(str(error)) from None
