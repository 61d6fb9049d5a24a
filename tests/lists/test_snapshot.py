"""Tests of the snapshot: it returns exactly the answers that a registry gave to a controller."""

import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from dialgate.core.model import DAY, Block, RegistryAnswer
from dialgate.lists.manifest import (
    MANIFEST,
    Manifest,
    ManifestEntry,
    SnapshotMissing,
    read_manifest,
    signed_text,
)
from dialgate.lists.number_set import DamagedFile, NumberSet, write
from dialgate.lists.snapshot import (
    PULLED,
    Consultation,
    Contents,
    Pulled,
    Snapshot,
    SnapshotPart,
    State,
    has_changed,
    pulled_at,
    read_contents,
)
from tests.support.damage import flip

FIRST, SECOND = 1_000, 2_000
LISTED, CLEAR, AGAIN, NEVER = 393330000001, 393330000002, 393330000003, 393330000004


def consultation(name: str, at: int) -> Consultation:
    return Consultation(
        id=name,
        submitted_at=at,
        answered_at=at + 1,
        imported_at=at + 2,
        receipt="T",
        request_sha256="",
        answer_sha256="",
        lines=3,
        listed=1,
        clear=2,
    )


ANSWERS = Contents(
    registry="rpo",
    controller="acme",
    mode="answers",
    consultations=(consultation("old", FIRST), consultation("new", SECOND), consultation("unused", 3_000)),
    states=(
        State(answer="listed", consultation=0, listed_at=FIRST),
        State(answer="clear", consultation=1),
        State(answer="clear", consultation=1, listed_at=FIRST),
    ),
)
FULL = Contents(
    registry="tps",
    controller="",
    mode="full_list",
    consultations=(consultation("v2", SECOND), consultation("v1", FIRST)),
    states=(State(answer="listed", consultation=0, listed_at=SECOND),),
    coverage=("4420", "4413"),
)


def add(folder: Path, contents: Contents, numbers: list[int], tags: list[int] | None = None) -> ManifestEntry:
    path = folder / f"{contents.registry}.{contents.controller}.numbers"
    ordered = np.array(numbers, np.uint64)
    given = None if tags is None else np.array(tags, np.uint16)
    write(path, [ordered], meta=msgspec.json.encode(contents), tags=given)
    opened = NumberSet.open(path)
    return ManifestEntry(
        registry=contents.registry,
        controller=contents.controller,
        mode=contents.mode,
        file=path.name,
        sha256=opened.sha256,
        numbers=len(numbers),
    )


def announce(folder: Path, *files: ManifestEntry) -> Manifest:
    version = sha256(msgspec.json.encode(files)).hexdigest()[:16]
    manifest = Manifest(version=version, published_at=5, files=files)
    (folder / "next").write_bytes(msgspec.json.encode(manifest))
    (folder / "next").replace(folder / MANIFEST)
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    announce(
        tmp_path,
        add(tmp_path, ANSWERS, [LISTED, CLEAR, AGAIN], [0, 1, 2]),
        add(tmp_path, FULL, [441300000001, 447700000001]),
    )
    return tmp_path


TABLE = [
    (("rpo", "acme", LISTED), ("listed", FIRST, FIRST + 1, "old")),
    (("rpo", "acme", CLEAR), ("clear", SECOND, 0, "new")),
    # cleared since, yet consents before the first answer are void
    (("rpo", "acme", AGAIN), ("clear", SECOND, FIRST + 1, "new")),
    (("rpo", "acme", NEVER), ("unknown", 0, 0, "")),
    (("rpo", "beta", CLEAR), ("unknown", 0, 0, "")),  # acme's answer is never used for beta
    (("rpo", "", CLEAR), ("unknown", 0, 0, "")),
    (("dnc", "acme", CLEAR), ("unknown", 0, 0, "")),  # no such list here
    (("tps", "acme", 441300000001), ("listed", SECOND, SECOND, "v2")),
    (("tps", "beta", 441300000002), ("clear", SECOND, 0, "v2")),
    (("tps", "beta", 442000000000), ("clear", SECOND, 0, "v2")),
    (("tps", "beta", 442100000000), ("uncovered", SECOND, 0, "v2")),
    # listed counts outside the coverage too
    (("tps", "beta", 447700000001), ("listed", SECOND, SECOND, "v2")),
]


@pytest.mark.parametrize(("question", "answer"), TABLE)
def test_answers_are_three_valued_and_belong_to_a_controller(
    folder: Path, question: tuple[str, str, int], answer: tuple[str, int, int, str]
) -> None:
    snapshot = Snapshot.open(folder)
    given = snapshot.answer(*question)
    assert (given.answer, given.consulted_at, given.listed_at, given.consultation) == answer
    assert (given.registry, given.snapshot) == (question[0], snapshot.version)


@pytest.mark.parametrize(
    ("answered_at", "imported_at", "listed_by"),
    [
        (FIRST + 2 * DAY, FIRST + 3 * DAY, FIRST + 2 * DAY),
        (0, FIRST + DAY - 1, FIRST + DAY - 1),
        (0, FIRST + DAY, FIRST + DAY),
        (0, FIRST + DAY + 1, FIRST + DAY),
        (0, 0, FIRST),
    ],
)
def test_an_enrolment_may_be_as_late_as_the_answer(
    answered_at: int, imported_at: int, listed_by: int
) -> None:
    asked = msgspec.structs.replace(
        consultation("old", FIRST), answered_at=answered_at, imported_at=imported_at
    )
    assert asked.listed_by == listed_by


def test_the_parts_have_the_age_of_the_answers_in_use(folder: Path) -> None:
    """A consultation is not in use if all its answers were replaced. A full list is as old as its newest version."""
    snapshot = Snapshot.open(folder)
    snapshot.verify()
    assert snapshot.published_at == 5
    assert snapshot.parts() == (
        SnapshotPart(registry="rpo", controller="acme", numbers=3, newest_consulted_at=SECOND),
        SnapshotPart(registry="tps", controller="", numbers=2, newest_consulted_at=SECOND),
    )
    assert snapshot.consultations(snapshot.parts()[0]) == ANSWERS.consultations


def test_an_old_snapshot_is_used_until_the_new_one_is_loaded(folder: Path) -> None:
    old = Snapshot.open(folder)
    assert has_changed(folder, None)
    assert not has_changed(folder, old)
    nothing = msgspec.structs.replace(
        ANSWERS, states=(State(answer="listed", consultation=1, listed_at=SECOND),)
    )
    (folder / "rpo.acme.numbers").unlink()
    announce(folder, add(folder, nothing, [CLEAR], [0]))
    assert has_changed(folder, old)
    new = Snapshot.open(folder)
    assert not has_changed(folder, new)
    assert new.version != old.version
    assert [snapshot.answer("rpo", "acme", CLEAR).answer for snapshot in (old, new)] == ["clear", "listed"]
    old.close()
    with pytest.raises(ValueError, match=r"closed|released"):
        old.answer("rpo", "acme", CLEAR)
    assert new.answer("rpo", "acme", CLEAR).answer == "listed"


def test_without_a_publication_the_error_says_what_to_do(tmp_path: Path) -> None:
    assert not has_changed(tmp_path, None)
    with pytest.raises(SnapshotMissing):
        read_manifest(tmp_path)
    with pytest.raises(SnapshotMissing, match="Run `registry-sync import`"):
        Snapshot.open(tmp_path)


def _other_owner(folder: Path) -> None:
    entry = add(folder, ANSWERS, [CLEAR], [1])
    announce(folder, msgspec.structs.replace(entry, controller="beta"))


def _edit_manifest(folder: Path, old: bytes, new: bytes) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(old, new))


def _foreign_meta(folder: Path) -> None:
    path = folder / "rpo.acme.numbers"
    write(path, [], meta=b'{"some":"thing"}')
    entry = add(folder, FULL, [])
    announce(folder, msgspec.structs.replace(entry, file=path.name, sha256=NumberSet.open(path).sha256))


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "manifest cut": (
        lambda folder: (folder / MANIFEST).write_bytes(b'{"version"'),
        MANIFEST,
        "not a manifest: Input data was truncated",
    ),
    "manifest of something else": (
        lambda folder: (folder / MANIFEST).write_bytes(b"{}"),
        MANIFEST,
        "not a manifest: Object missing required field `version`",
    ),
    "newer manifest": (
        lambda folder: _edit_manifest(folder, b'"format":1', b'"format":3'),
        MANIFEST,
        "format 3 is newer than this version supports (2): update dialgate",
    ),
    "set gone": (
        lambda folder: (folder / "rpo.acme.numbers").unlink(),
        "rpo.acme.numbers",
        "missing, but listed in the manifest: import again or roll back",
    ),
    "set cut": (
        lambda folder: (folder / "rpo.acme.numbers").write_bytes(b""),
        "rpo.acme.numbers",
        "not a number set",
    ),
    "another set under the name": (
        lambda folder: add(folder, ANSWERS, [CLEAR], [1]),
        "rpo.acme.numbers",
        "its SHA-256 differs from the manifest: import again or roll back",
    ),
    "another controller's set": (
        _other_owner,
        "rpo.acme.numbers",
        "its registry, controller or mode differs from the manifest: import again or roll back",
    ),
    "a set that holds something else": (
        _foreign_meta,
        "rpo.acme.numbers",
        "its metadata does not describe registry answers: Object missing required field `registry`",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_publication_is_not_opened_and_does_not_affect_an_open_one(
    folder: Path, damage: str
) -> None:
    before = Snapshot.open(folder)
    spoil, file, fault = DAMAGE[damage]
    (folder / "rpo.acme.numbers").rename(folder / "kept")  # as a publisher does: never written in place
    (folder / "rpo.acme.numbers").write_bytes((folder / "kept").read_bytes())
    spoil(folder)
    with pytest.raises(DamagedFile) as raised:
        Snapshot.open(folder)
    assert str(raised.value) == f"{folder / file}: {fault}"
    assert before.answer("rpo", "acme", CLEAR).answer == "clear"


def test_damage_after_the_header_raises_when_it_is_read_and_verify_finds_all_of_it(folder: Path) -> None:
    announce(folder, add(folder, ANSWERS, [CLEAR, NEVER], [1, 9]))
    snapshot = Snapshot.open(folder)
    assert snapshot.answer("rpo", "acme", CLEAR).answer == "clear"
    with pytest.raises(DamagedFile, match="an offset or a tag is out of range: import again"):
        snapshot.answer("rpo", "acme", NEVER)
    with pytest.raises(DamagedFile, match="an offset or a tag is out of range: import again"):
        snapshot.answers_for("rpo", "acme").places(np.array([NEVER], np.uint64))
    flip(folder / "rpo.acme.numbers", -1)
    with pytest.raises(DamagedFile, match="body checksum differs"):
        Snapshot.open(folder).verify()


def test_damage_of_a_base_raises_when_it_is_read(folder: Path) -> None:
    base = add(folder, ANSWERS, [NEVER], [9])
    (folder / base.file).rename(folder / "base.numbers")
    above = add(folder, ANSWERS, [CLEAR], [1])
    announce(folder, replace(above, base="base.numbers", base_sha256=base.sha256))
    snapshot = Snapshot.open(folder)
    assert snapshot.answer("rpo", "acme", CLEAR).answer == "clear"
    with pytest.raises(DamagedFile, match="an offset or a tag is out of range: import again"):
        snapshot.answer("rpo", "acme", NEVER)
    with pytest.raises(DamagedFile, match="an offset or a tag is out of range: import again"):
        snapshot.answers_for("rpo", "acme").places(np.array([NEVER], np.uint64))


def test_an_offset_out_of_range_raises_when_it_is_read(folder: Path) -> None:
    announce(folder, add(folder, ANSWERS, [CLEAR], [1]))
    path = folder / "rpo.acme.numbers"
    data, entries = bytearray(path.read_bytes()), 257
    directory = len(data) - 2 - 8 * entries  # then the ranks, and the one tag
    struct.pack_into(f"<{entries}I", data, directory, *range(1 << 31, (1 << 31) + 10 * entries, 10))
    path.write_bytes(data)
    with pytest.raises(DamagedFile, match="an offset or a tag is out of range: import again"):
        Snapshot.open(folder).answer("rpo", "acme", CLEAR)


def test_a_copy_reports_when_it_was_up_to_date_and_a_damaged_report_means_never(tmp_path: Path) -> None:
    assert pulled_at(tmp_path) is None
    (tmp_path / PULLED).write_bytes(msgspec.json.encode(Pulled(at=7, version="0")))
    assert pulled_at(tmp_path) == 7
    (tmp_path / PULLED).write_bytes(b"\xff")
    assert pulled_at(tmp_path) == 0


def test_a_publication_without_answers_has_parts_of_age_zero(tmp_path: Path) -> None:
    nothing = msgspec.structs.replace(ANSWERS, consultations=(), states=())
    announce(tmp_path, add(tmp_path, nothing, [], []))
    snapshot = Snapshot.open(tmp_path)
    (part,) = snapshot.parts()
    assert (part.numbers, part.newest_consulted_at) == (0, 0)
    assert snapshot.answer("rpo", "acme", CLEAR) == RegistryAnswer(
        registry="rpo", answer="unknown", snapshot=snapshot.version
    )


def test_the_stored_format_of_metadata_is_stable(tmp_path: Path) -> None:
    """Stored metadata must stay readable. Unknown fields are ignored, and an absent `coverage` is empty."""
    meta = (
        b'{"registry":"rpo","controller":"acme","mode":"answers","consultations":[{"id":"c","submitted_at":1,'
        b'"answered_at":2,"imported_at":3,"receipt":"T","request_sha256":"r","answer_sha256":"a","lines":4,"listed":5,'
        b'"clear":6}],"states":[{"answer":"listed","consultation":0,"listed_at":1}],"a later field":7}'
    )
    path = tmp_path / "set"
    write(path, [np.array([1], np.uint64)], meta=meta, tags=np.array([0], np.uint16))
    contents = read_contents(NumberSet.open(path), path)
    assert contents.states == (State(answer="listed", consultation=0, listed_at=1),)
    assert contents.consultations[0].clear == 6
    assert contents.coverage == ()


BY_AREA = msgspec.structs.replace(FULL, covered_by=(0, 1))


def test_each_area_of_a_full_list_has_the_age_of_its_own_version(tmp_path: Path) -> None:
    """A new version of one area leaves the age of others unchanged. `parts` reports the newest version."""
    announce(tmp_path, add(tmp_path, BY_AREA, [441300000001, 442000000001]))
    snapshot = Snapshot.open(tmp_path)
    found = [snapshot.answer("tps", "", number) for number in (441300000001, 441300000002, 442000000002)]
    assert [(notice.answer, notice.consulted_at) for notice in found] == [
        ("listed", FIRST),
        ("clear", FIRST),
        ("clear", SECOND),
    ]
    reader = snapshot.answers_for("tps", "")
    places = reader.places(np.array([441300000001, 441300000002, 442000000002], np.uint64))
    assert [reader.answers[place] for place in places.tolist()] == found
    (part,) = snapshot.parts()
    assert part.newest_consulted_at == SECOND


def test_the_version_of_the_longest_matching_area_applies(tmp_path: Path) -> None:
    contents = msgspec.structs.replace(BY_AREA, coverage=("44", "4420"))
    announce(tmp_path, add(tmp_path, contents, [441300000001]))
    snapshot = Snapshot.open(tmp_path)
    versions = [snapshot.answer("tps", "", number).consulted_at for number in (441300000002, 442000000001)]
    assert versions == [SECOND, FIRST]


def test_a_number_of_a_tagged_full_list_has_the_state_of_its_tag(tmp_path: Path) -> None:
    states = tuple(
        State(answer="listed", consultation=at, listed_at=listed) for at, listed in ((0, 1), (1, 2))
    )
    contents = msgspec.structs.replace(FULL, states=states)
    announce(tmp_path, add(tmp_path, contents, [441300000001, 442000000001, 447700000001], [0, 1, 1]))
    snapshot = Snapshot.open(tmp_path)
    answers = [
        snapshot.answer("tps", "", number)
        for number in (441300000001, 442000000001, 447700000001, 442000000002)
    ]
    assert [(answer.answer, answer.consulted_at, answer.listed_at) for answer in answers] == [
        ("listed", SECOND, 1),
        ("listed", FIRST, 2),
        ("listed", FIRST, 2),
        ("clear", SECOND, 0),
    ]
    reader = snapshot.answers_for("tps", "")
    places = reader.places(np.array([441300000001, 442000000001, 442000000002, 447700000001], np.uint64))
    assert [reader.answers[place].listed_at for place in places.tolist()] == [1, 2, 0, 2]


def test_a_state_holds_the_part_of_the_calls_that_it_bars_and_the_day_of_the_listing(tmp_path: Path) -> None:
    blocks = (Block(categories=("banking",), bands=("18:00-21:00",)), Block(call_types=("automated",)))
    states = (
        State(answer="listed", consultation=0, listed_at=1, blocks=blocks),
        State(answer="listed", consultation=0, listed_at=1, since=FIRST),
    )
    contents = msgspec.structs.replace(FULL, states=states)
    announce(tmp_path, add(tmp_path, contents, [441300000001, 442000000001], [0, 1]))
    snapshot = Snapshot.open(tmp_path)
    answers = [snapshot.answer("tps", "", number) for number in (441300000001, 442000000001, 442000000002)]
    assert [(answer.blocks, answer.since) for answer in answers] == [(blocks, 0), ((), FIRST), ((), 0)]


def test_coverage_without_a_version_counts_as_damage(tmp_path: Path) -> None:
    contents = msgspec.structs.replace(FULL, covered_by=(0,))
    announce(tmp_path, add(tmp_path, contents, [441300000001]))
    with pytest.raises(DamagedFile, match="`covered_by` and `coverage` have different lengths"):
        Snapshot.open(tmp_path)


def sign(folder: Path, key: Ed25519PrivateKey) -> str:
    """Sign the manifest in place. Returns the public key."""
    manifest = read_manifest(folder)
    signed = replace(manifest, signature=key.sign(signed_text(manifest)).hex())
    (folder / MANIFEST).write_bytes(msgspec.json.encode(signed))
    return key.public_key().public_bytes_raw().hex()


def _exchanged_set(folder: Path) -> tuple[ManifestEntry, ...]:
    """Replace a number set so that the answer for `LISTED` becomes `clear`. Return entries with the new checksum."""
    rpo, tps = read_manifest(folder).files
    contents = replace(ANSWERS, states=(State(answer="clear", consultation=1),))
    (folder / "other").mkdir()
    forged = add(folder / "other", contents, [LISTED, CLEAR], [0, 0])
    (folder / "other" / forged.file).replace(folder / rpo.file)
    return replace(rpo, sha256=forged.sha256), tps


def _exchanged_name(folder: Path) -> tuple[ManifestEntry, ...]:
    """Copy a number set to another file. Return entries that name the copy instead of the original."""
    rpo, tps = read_manifest(folder).files
    (folder / "copy.numbers").write_bytes((folder / rpo.file).read_bytes())
    return replace(rpo, file="copy.numbers"), tps


def _exchanged_set_and_name(folder: Path) -> tuple[ManifestEntry, ...]:
    rpo, tps = _exchanged_set(folder)
    (folder / rpo.file).replace(folder / "other.numbers")
    return replace(rpo, file="other.numbers"), tps


def _other_controller(folder: Path) -> tuple[ManifestEntry, ...]:
    """Add a number set that belongs to another controller."""
    rpo, tps = read_manifest(folder).files
    entry = add(folder, replace(ANSWERS, controller="beta"), [CLEAR], [1])
    return rpo, entry, tps


def _one_less(folder: Path) -> tuple[ManifestEntry, ...]:
    """Remove the full list from the manifest, so that no number is checked against the list."""
    return read_manifest(folder).files[:1]


def _other_order(folder: Path) -> tuple[ManifestEntry, ...]:
    return read_manifest(folder).files[::-1]


@pytest.mark.parametrize(
    "exchange",
    [_exchanged_set, _exchanged_name, _exchanged_set_and_name, _other_controller, _one_less, _other_order],
)
def test_files_exchanged_under_the_old_signature_are_not_opened(
    folder: Path, exchange: Callable[[Path], tuple[ManifestEntry, ...]]
) -> None:
    """`Snapshot.open` must reject a forged manifest even if the checksums of all files match.

    An attacker with write access to the folder can replace both a file and its checksum.
    """
    key = Ed25519PrivateKey.generate()
    public = sign(folder, key)
    assert Snapshot.open(folder, public).answer("rpo", "acme", LISTED).answer == "listed"
    forged = replace(read_manifest(folder), files=exchange(folder))
    (folder / MANIFEST).write_bytes(msgspec.json.encode(forged))
    Snapshot.open(folder)  # valid in itself
    with pytest.raises(DamagedFile, match="not signed with the key"):
        Snapshot.open(folder, public)
    assert sign(folder, key) == public
    Snapshot.open(folder, public)


@pytest.mark.parametrize("change", [{"version": "0" * 16}, {"published_at": 6}])
def test_a_signed_manifest_is_of_one_version_and_one_instant(folder: Path, change: dict[str, object]) -> None:
    public = sign(folder, Ed25519PrivateKey.generate())
    (folder / MANIFEST).write_bytes(msgspec.json.encode(replace(read_manifest(folder), **change)))
    with pytest.raises(DamagedFile, match="not signed with the key"):
        Snapshot.open(folder, public)


def test_every_field_of_a_file_that_a_gate_acts_on_is_signed() -> None:
    entry = ManifestEntry(
        registry="r",
        controller="c",
        mode="answers",
        file="f",
        sha256="s",
        numbers=1,
        base="b",
        base_sha256="t",
    )
    manifest = Manifest(version="v", published_at=1, files=(entry,))
    names = set(ManifestEntry.__struct_fields__) - {"numbers"}
    others = dict.fromkeys(names, "x") | {"mode": "full_list"}
    for field, value in others.items():
        changed_entry = replace(entry, **{field: value})
        assert signed_text(replace(manifest, files=(changed_entry,))) != signed_text(manifest), field


def test_a_gate_with_a_key_opens_only_what_this_key_signed(tmp_path: Path) -> None:
    announce(tmp_path, add(tmp_path, FULL, [441300000001]))
    with pytest.raises(DamagedFile, match="not signed with the key"):
        Snapshot.open(tmp_path, "0" * 64)
