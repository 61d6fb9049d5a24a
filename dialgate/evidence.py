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
    kept                law and configuration by their SHA-256: what grounds name, and the files that a configuration lists
    manifest            of the registry answers, where those of the decision are still the ones in use
    covered             the last entry that a checkpoint covers: what was reported later of a call is not in it
    stamps              RFC 3161 time stamps (DER, base64) of a checkpoint (an index), its line break included

A decision is proved by the first checkpoint that covers it; by the first of the day after that bears a time stamp, if one does.
What entries prove is what the log held when the checkpoint was signed. That a number in clear belongs to its record, and
what a receipt says, is the word of whoever signed the bundle: the keys that would show it open everybody else's records
too. How it may change: fields are appended; anything else is a new `format`. `dialgate/verifier/verify_evidence.py` checks it all and needs none of this package.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from dialgate import chains
from dialgate.archive import Segments
from dialgate.decision_log import Line, Span, Stored, Tree, leaf_hash, signed_checkpoints
from dialgate.keys import KeyRetired, Keys
from dialgate.ledger import ConsentGiven
from dialgate.model import DAY, Instant
from dialgate.numberset import DamagedFile, NumberSet
from dialgate.records import Reader, Record
from dialgate.signing import Signer
from dialgate.snapshot import Consultation, Manifest, SnapshotMissing, read_contents, read_manifest
from dialgate.store import Store
from dialgate.timestamps import timestamps

FORMAT: Literal[1] = 1


class NoEvidence(Exception):
    """It cannot be proved, and why."""


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


class Proved(Struct, frozen=True, kw_only=True):
    seq: int
    body: str
    checkpoint: int
    path: list[str]


class Stamp(Struct, frozen=True, kw_only=True):
    checkpoint: int
    response: bytes


class Asked(Struct, frozen=True, kw_only=True):
    number: str
    decisions: list[str]


class Bundle(Struct, frozen=True, kw_only=True):
    format: Literal[1] = FORMAT
    log: str
    made_at: Instant
    decisions: list[Finding]
    asked: list[Asked]
    entries: list[Proved]
    checkpoints: list[dict[str, str]]
    keys: dict[str, str]
    kept: dict[str, str] = field(default_factory=dict)
    manifest: Manifest | None = None
    covered: int = 0
    stamps: list[Stamp] = []


class _Sealed(Struct):
    evidence: Bundle


class Sources(Struct, frozen=True, kw_only=True):
    """A gate's `data` folder, and what opens it. `read`: the log's lines from a sequence on."""

    data: Path
    keys: Keys
    signer: Signer
    store: Store
    read: Callable[[int], Iterator[Line]]
    folder: Path

    @classmethod
    def of(cls, data: Path, *, keys: Keys, signer: Signer, store: Store, worker: int = 1) -> "Sources":
        """`keys` are those of the `worker`, whose log it is about."""
        folder = chains.folder(data, worker)
        read = partial(_entries, folder)
        return cls(data=data, keys=keys, signer=signer, store=store, read=read, folder=folder)


def _entries(folder: Path, first: int) -> Iterator[Line]:
    return Segments(folder).lines(first)


async def of_decision(sources: Sources, decision: str, now: Instant) -> bytes:
    """Raises `NoEvidence`, `LogDamaged`, `KeysUnusable`, `StoreUnavailable`."""
    log, _, digits = decision.rpartition("-")
    record = Reader(sources.folder).find(int(digits)) if digits.isdecimal() else None
    if log != sources.keys.log or not isinstance(record, Record) or record.id != decision:
        raise NoEvidence(f"there is no decision {decision} in this log, {sources.keys.log}")
    return await _bundle(sources, [record], [], now)


async def of_numbers(sources: Sources, numbers: Sequence[str], now: Instant) -> bytes:
    """Every decision about numbers in E.164, and for which there is none. Raises as `of_decision`."""
    owner = {each: number for number in numbers for each in sources.keys.hashes(number).values()}
    records = [record for _, record in Reader(sources.folder).about(frozenset(owner))]
    asked = [
        Asked(number=number, decisions=[record.id for record in records if owner[record.number] == number])
        for number in numbers
    ]
    return await _bundle(sources, records, asked, now)


def numbers_in(bundle: bytes) -> set[str]:
    """The called numbers that it shows."""
    found = msgspec.json.decode(bundle, type=_Sealed).evidence.decisions
    return {each.number for each in found if each.number}


async def _bundle(sources: Sources, records: Sequence[Record], asked: list[Asked], now: Instant) -> bytes:
    stored = signed_checkpoints(sources.folder)
    stamps = {each.checkpoint: each.response for each in timestamps(sources.folder)}
    covered = stored[-1].checkpoint.size if stored else 0
    became = _outcomes(sources.folder, records, covered)
    used, proved = _proved(sources, stored, _covering(stored, stamps.keys(), _together(records, became)))
    manifest = _manifest(sources.data / "snapshots", records)
    body = Bundle(
        log=sources.keys.log,
        made_at=now,
        decisions=[await _finding(sources, record, became.get(record.id, [])) for record in records],
        asked=asked,
        entries=proved,
        checkpoints=[{"body": each.body.decode(), "signature": each.signature.hex()} for each in used],
        keys=_public(sources.signer.public, used),
        kept=dict(_kept(sources.data / "kept", records)),
        manifest=manifest,
        covered=covered,
        stamps=[
            Stamp(checkpoint=index, response=stamps[each.line_hash])
            for index, each in enumerate(used)
            if each.line_hash in stamps
        ],
    )
    return _sealed(msgspec.json.encode(body), sources.signer)


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


# ---- proofs ----------------------------------------------------------------------------------------------------------


def _outcomes(folder: Path, records: Sequence[Record], covered: int) -> dict[str, list[int]]:
    """The entries that say what became of the calls, by decision."""
    found: dict[str, list[int]] = {}
    if records:
        ids = {record.id for record in records}
        for each in sorted(Reader(folder).reports(ids), key=attrgetter("seq")):
            if each.seq <= covered:
                found.setdefault(each.decision, []).append(each.seq)
    return found


def _together(records: Sequence[Record], became: Mapping[str, list[int]]) -> list[tuple[int, ...]]:
    """Entries that are proved by one checkpoint: a decision and its grounds; what became of it by one of its own."""
    outcomes = [(seq,) for seqs in became.values() for seq in seqs]
    return [*((record.grounds, record.seq) for record in records), *outcomes]


def _covering(
    stored: Sequence[Stored], stamped: Collection[str], together: Iterable[tuple[int, ...]]
) -> dict[int, list[int]]:
    """The entries to be proved by each checkpoint."""
    sizes = [each.checkpoint.size for each in stored]
    shared: dict[int, set[int]] = {}
    for seqs in together:
        if not sizes or seqs[-1] > sizes[-1]:
            raise NoEvidence(
                f"record {seqs[-1]} is not covered by a signed checkpoint yet: wait until the gate has made one"
                " (`checkpoint_seconds`), or make it with `dialgate log checkpoint` while no gate runs"
            )
        shared.setdefault(_best(stored, stamped, bisect_left(sizes, seqs[-1])), set()).update(seqs)
    return {place: sorted(seqs) for place, seqs in sorted(shared.items())}


def _best(stored: Sequence[Stored], stamped: Collection[str], first: int) -> int:
    """The first that covers an entry, or the first with a stamp of the day after: a later one would have to be reached through
    all that was logged until then."""
    until = stored[first].checkpoint.at + DAY
    near = takewhile(lambda place: stored[place].checkpoint.at <= until, range(first, len(stored)))
    return next((place for place in near if stored[place].line_hash in stamped), first)


def _proved(
    sources: Sources, stored: Sequence[Stored], covering: Mapping[int, list[int]]
) -> tuple[list[Stored], list[Proved]]:
    used = [stored[place] for place in covering]
    return used, [
        each
        for index, (place, seqs) in enumerate(covering.items())
        for each in _paths(sources, stored, place, seqs, index)
    ]


def _paths(
    sources: Sources, stored: Sequence[Stored], place: int, seqs: list[int], index: int
) -> Iterator[Proved]:
    """From the last checkpoint before all of them on: what came earlier stands in its peaks."""
    size = stored[place].checkpoint.size
    sizes = [each.checkpoint.size for each in stored]
    before = bisect_left(sizes, seqs[0]) - 1
    tree = Tree(stored[before].checkpoint.span() if before >= 0 else Span())
    bodies: dict[int, bytes] = {}
    for line in sources.read(tree.size + 1):
        tree.add(leaf_hash(line.body))
        if line.seq in seqs:
            bodies[line.seq] = line.body
        if line.seq == size:
            break
    if tree.root().hex() != stored[place].checkpoint.root:
        raise NoEvidence(
            f"the log up to record {size} is not what its checkpoint signed: see `dialgate log verify`"
        )
    for seq in seqs:
        path = [each.hex() for each in tree.path(seq - 1)]
        yield Proved(seq=seq, body=bodies[seq].decode(), checkpoint=index, path=path)


# ---- what a record refers to -----------------------------------------------------------------------------------------


async def _finding(sources: Sources, record: Record, outcomes: list[int]) -> Finding:
    try:
        number = sources.keys.month(record.at).unseal(record.sealed).split(" ", 1)[0]
    except KeyRetired:
        number = None
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
    return manifest if manifest.version in {record.snapshot for record in records} else None


def _kept(folder: Path, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Raises `NoEvidence` where a text is not there: it is kept for as long as the record."""
    for config in sorted({record.config for record in records}):
        listing = _text(folder, config)
        yield config, listing
        for line in listing.splitlines():
            digest = line.rpartition(" ")[2]
            yield digest, _text(folder, digest)
    for law in sorted({record.law for record in records}):
        yield law, _text(folder, law)


def _text(folder: Path, digest: str) -> str:
    try:
        return (folder / digest).read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise NoEvidence(
            f"{folder / digest}: {error}; a decision rests on it: restore it from a copy"
        ) from None
