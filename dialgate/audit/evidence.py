"""Evidence: what a sceptic needs to check decisions alone, in one file of one line.

    {"signature":"<128 hex digits>","key":"<64 hex digits>","evidence":<body>}\\n

`key` is the raw public half of the log's signing key, and the signature is Ed25519 of "dialgate evidence\\n", then the body
as stored: so no byte can be changed and none added. The body is a JSON object:

    log, made_at        whose evidence, and when it was made
    decisions           for each: id, grounds (their sequence), the called number in clear, or none where the keys of its
                        month are destroyed; the answers of the registries and the consents that its facts name, with
                        receipt, artefact and hash, as far as they are still held; and the sequences of the entries
                        that say what became of the call
    asked               of a list of numbers: each, with the ids of its decisions
    entries             decisions and grounds as the log stores them, with the checkpoint (an index) they are in and the
                        way to its root (RFC 6962, 2.1.1)
    checkpoints, keys   as the log stores them; and the public keys they are signed by, by name
    kept                texts by their SHA-256: the law and the list of the configuration (see `dialgate.config.content_store`) that grounds
                        name; of the configuration's files, with their entries, only the law and the controller's own
    manifest            of the registry answers, where those of the decision are still the ones in use; other controllers'
                        files are left out, and then the signature too
    covered             the last entry that a checkpoint covers: what was reported later of a call is not in it
    elsewhere           what other logs of the same gate hold of what became of the calls: for each its log, entries and
                        checkpoints, as above
    since, until        of a list of numbers: decisions from this instant on and before that one, where it was so asked
    stamps              RFC 3161 time stamps (DER, base64) of a checkpoint (an index), its line break included

A decision is proved by the first checkpoint that covers it; by the first of the day after that bears a time stamp, if one does.
What entries prove is what the log held when the checkpoint was signed. That a number in clear belongs to its record, and
what a receipt says, is the word of whoever signed the bundle: the keys that would show it open everybody else's records
too. Format 1 held every file of the configuration. How it may change: fields are appended; anything else is a new
`format`. `dialgate/tools/verifier/verify_evidence.py` checks it all and needs none of this package.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field, structs

from dialgate.audit.legal_holds import Holds
from dialgate.config import content_store
from dialgate.core.ledger_events import ConsentGiven
from dialgate.core.model import Instant
from dialgate.crypto.keys import KeyRetired, Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import Stored, chains
from dialgate.decision_log.inclusion_proofs import Chain, NoEvidence, Proofs, Proved
from dialgate.decision_log.records import Reader, Record
from dialgate.decision_log.timestamps import timestamps
from dialgate.lists.number_set import DamagedFile, NumberSet
from dialgate.lists.snapshot import Consultation, Manifest, SnapshotMissing, read_contents, read_manifest
from dialgate.store import Ledger

FORMAT: Literal[2] = 2
_NEVER: Instant = 1 << 62


class Consented(Struct, frozen=True, kw_only=True):
    id: str
    text_version: str
    artefact: str
    artefact_sha256: str


class Finding(Struct, frozen=True, kw_only=True):
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


class Asked(Struct, frozen=True, kw_only=True):
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
    decisions: list[Finding] = []
    asked: list[Asked] = []
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


class _Sealed(Struct):
    evidence: Bundle


class Sources(Struct, frozen=True, kw_only=True):
    """A gate's `data` folder, and what opens it. `folder`: of the log; `others`: of the other logs of the node."""

    data: Path
    keys: Keys
    signer: Signer
    store: Ledger
    folder: Path
    others: tuple[Path, ...]

    @classmethod
    def of(cls, data: Path, *, keys: Keys, signer: Signer, store: Ledger, worker: int = 1) -> "Sources":
        """`keys` are those of the `worker`, whose log it is about."""
        folder = chains.folder(data, worker)
        others = tuple(path for path in chains.folders(data).values() if path != folder)
        return cls(data=data, keys=keys, signer=signer, store=store, folder=folder, others=others)


class Known(Struct, frozen=True):
    """A decision, and the number that was called, where that is known otherwise than by its keys."""

    record: Record
    number: str | None = None


async def of_decision(sources: Sources, decision: str, now: Instant) -> bytes:
    """Raises `NoEvidence`, `LogDamaged`, `KeysUnusable`, `StoreUnavailable`."""
    record = _find(sources, decision)
    if record is None:
        raise NoEvidence(f"there is no decision {decision} in this log, {sources.keys.log}")
    return await _bundle(sources, [Known(record)], Bundle(log=sources.keys.log, made_at=now))


async def of_numbers(
    sources: Sources,
    numbers: Sequence[str],
    now: Instant,
    since: Instant | None = None,
    until: Instant | None = None,
) -> bytes:
    """Every decision about numbers in E.164, also those of retired months that a legal hold keeps, and for which there is
    none. `since`, `until`: given from the one instant on, and before the other. Raises as `of_decision`, and `HoldRefused`."""
    owner = {each: number for number in numbers for each in sources.keys.hashes(number).values()}
    about = [record for _, record in Reader(sources.folder).about(frozenset(owner))]
    found = {record.id: Known(record, owner[record.number]) for record in about}
    found |= {each.record.id: each for each in _held(sources, numbers)}
    within = [each for each in found.values() if (since or 0) <= each.record.at < (until or _NEVER)]
    asked = [
        Asked(number=number, decisions=[each.record.id for each in within if each.number == number])
        for number in numbers
    ]
    body = Bundle(log=sources.keys.log, made_at=now, asked=asked, since=since, until=until)
    return await _bundle(sources, within, body)


def _held(sources: Sources, numbers: Iterable[str]) -> Iterator[Known]:
    holds = Holds(sources.data, sources.keys)
    for number in numbers:
        hold = holds.find(number)
        for record in (_find(sources, decision) for decision in (hold.records if hold else ())):
            if record is not None:
                yield Known(record, number)


def _find(sources: Sources, decision: str) -> Record | None:
    decision = sources.keys.ids.inside(decision)
    log, _, digits = decision.rpartition("-")
    record = Reader(sources.folder).find(int(digits)) if digits.isdecimal() else None
    found = log == sources.keys.log and isinstance(record, Record) and record.id == decision
    return record if found and isinstance(record, Record) else None


def numbers_in(bundle: bytes) -> set[str]:
    """The called numbers that it shows."""
    found = msgspec.json.decode(bundle, type=_Sealed).evidence.decisions
    return {each.number for each in found if each.number}


async def _bundle(sources: Sources, found: Sequence[Known], body: Bundle) -> bytes:
    """`body`: what was asked."""
    records = [each.record for each in found]
    stamps = {each.checkpoint: each.response for each in timestamps(sources.folder)}
    chain = Chain(sources.folder)
    became = _outcomes(chain, records)
    proofs = chain.prove(_together(records, became), stamps.keys())
    elsewhere = [made for folder in sources.others if (made := _elsewhere(Chain(folder), records))]
    used = [*proofs.used, *(each for _, other in elsewhere for each in other.used)]
    filled = structs.replace(
        body,
        decisions=[await _finding(sources, each, became.get(each.record.id, [])) for each in found],
        entries=proofs.entries,
        checkpoints=proofs.checkpoints(),
        keys=_public(sources.signer.public, used),
        kept=dict(_kept(sources.data / "kept", records)),
        manifest=_manifest(sources.data / "snapshots", records),
        covered=chain.covered,
        stamps=[
            Stamp(checkpoint=index, response=stamps[each.line_hash])
            for index, each in enumerate(proofs.used)
            if each.line_hash in stamps
        ],
        elsewhere=[
            Elsewhere(log=log, entries=other.entries, checkpoints=other.checkpoints())
            for log, other in elsewhere
        ],
    )
    return _sealed(msgspec.json.encode(filled), sources.signer)


def _elsewhere(chain: Chain, records: Sequence[Record]) -> tuple[str, Proofs] | None:
    """What another log, by its name, holds of what became of these calls."""
    seqs = [seq for each in _outcomes(chain, records).values() for seq in each]
    return (chain.log, chain.prove([(seq,) for seq in seqs])) if seqs else None


def _outcomes(chain: Chain, records: Sequence[Record]) -> dict[str, list[int]]:
    """The entries that say what became of the calls, by decision; without those that no checkpoint covers yet."""
    found: dict[str, list[int]] = {}
    for each in sorted(
        Reader(chain.folder).reports({record.id for record in records}), key=attrgetter("seq")
    ):
        if each.seq <= chain.covered:
            found.setdefault(each.decision, []).append(each.seq)
    return found


def _together(records: Sequence[Record], became: Mapping[str, list[int]]) -> list[tuple[int, ...]]:
    """Entries that are proved by one checkpoint: a decision and its grounds; what became of it by one of its own."""
    outcomes = [(seq,) for seqs in became.values() for seq in seqs]
    return [*((record.grounds, record.seq) for record in records), *outcomes]


def _sealed(body: bytes, signer: Signer) -> bytes:
    signature = signer.sign(b"dialgate evidence\n" + body).hex().encode()
    key = signer.public[signer.name].hex().encode()
    return b'{"signature":"%b","key":"%b","evidence":%b}\n' % (signature, key, body)


def _public(public: Mapping[str, bytes], used: Iterable[Stored]) -> dict[str, str]:
    names = {each.checkpoint.key for each in used}
    if unknown := names - public.keys():
        raise NoEvidence(
            f"a checkpoint is signed by {', '.join(unknown)}, which is no key of this log: see `dialgate log verify`"
        )
    return {name: public[name].hex() for name in sorted(names)}


# ---- what a record refers to -----------------------------------------------------------------------------------------


async def _finding(sources: Sources, known: Known, outcomes: list[int]) -> Finding:
    record, number = known.record, known.number
    with suppress(KeyRetired):
        number = number or sources.keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]
    named = {answer.consultation for answer in record.facts.registries}
    return Finding(
        id=record.id,
        seq=record.seq,
        grounds=record.grounds,
        number=number,
        consultations=[
            each
            for registry in {answer.registry for answer in record.facts.registries}
            for each in _consultations(sources.data / "snapshots", registry, record.facts.controller.id)
            if each.id in named
        ],
        consents=[] if number is None else await _consents(sources, record, number),
        outcomes=outcomes,
    )


async def _consents(sources: Sources, record: Record, number: str) -> list[Consented]:
    named = {consent.id for consent in record.facts.known.consents}
    if not named:
        return []
    history = await sources.store.history(sources.keys.subject(record.facts.controller.id, number))
    return [
        Consented(
            id=event.id,
            text_version=event.text_version,
            artefact=event.artefact,
            artefact_sha256=event.artefact_sha256,
        )
        for event in (entry.event for entry in history)
        if isinstance(event, ConsentGiven) and event.id in named
    ]


def _consultations(folder: Path, registry: str, controller: str) -> Iterator[Consultation]:
    """Every one that the answers in use remember."""
    try:
        manifest = read_manifest(folder)
        for entry in manifest.files:
            if entry.registry == registry and entry.controller in {controller, ""}:
                path = folder / entry.file
                numbers = NumberSet.open(path)
                yield from read_contents(numbers, path).consultations
                numbers.close()
    except (SnapshotMissing, DamagedFile, OSError):
        return  # a receipt is given where it is found; the facts name the consultation in any case


def _manifest(folder: Path, records: Sequence[Record]) -> Manifest | None:
    try:
        manifest = read_manifest(folder)
    except (SnapshotMissing, DamagedFile):
        return None
    if manifest.version not in {record.snapshot for record in records}:
        return None
    owners = {"", *(record.facts.controller.id for record in records)}
    files = tuple(each for each in manifest.files if each.controller in owners)
    return manifest if files == manifest.files else structs.replace(manifest, files=files, signature="")


def _kept(folder: Path, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """What the records rest on, and nothing of other controllers. Raises `NoEvidence` if a text is missing."""
    laws = {record.law for record in records}
    try:
        for config in sorted({record.config for record in records}):
            owners = {record.facts.controller.id for record in records if record.config == config} - {""}
            yield config, content_store.content(folder, config).decode()
            for file in content_store.config_files(folder, config):
                raw = content_store.content(folder, file.digest)
                if file.digest in laws or content_store.controller_of(raw) in owners:
                    yield file.digest, raw.decode()
                    if file.entry:
                        yield file.entry, f"{file.name} {file.digest}"
        for law in sorted(laws):
            yield law, content_store.content(folder, law).decode()
    except (content_store.NotKept, UnicodeDecodeError) as error:
        raise NoEvidence(str(error)) from None
