"""A called number can be found and decrypted only with the keys for its month, and never after they are destroyed."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.crypto.keys import KeyedHash, KeyRetired, Keys, KeysUnusable, MonthKeys, _MonthFile
from dialgate.crypto.nonces import nonces
from tests.support.paths import ROOT

NUMBER = "+393331234567"
NONCE = bytes(12)


def at(year: int, month: int, day: int = 1) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 1000


def test_a_new_key_file_is_for_its_owner_only_and_names_the_log(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    umask = os.umask(0)
    log = Keys.open(path).log
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(log)) == 4
    assert Keys.open(path).log == log
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_key_file_that_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    Keys.open(path)
    path.chmod(mode)
    with pytest.raises(KeysUnusable, match=f"chmod 600 {path}"):
        Keys.open(path)


BROKEN = {
    "cut": b'{"format":1,"subject":"',
    "empty": b"",
    "not text": b'{"format":1,"log":"\xff"}',
    "newer format": b'{"format":2,"subject":"%b"}' % (b"A" * 43 + b"="),
    "a field of a newer program": b'{"format":1,"subject":"%b","escrow":""}' % (b"A" * 43 + b"="),
    "short key": b'{"format":1,"subject":"AAAA"}',
    "no such month": b'{"format":1,"subject":"%b","months":{"2026-13":{}}}' % (b"A" * 43 + b"="),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_damaged_key_file_is_refused_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeysUnusable, match="restore the file"):
        Keys.open(path)
    assert path.read_bytes() == content


def test_a_missing_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(KeysUnusable, match="No such file or directory"):
        Keys.open(tmp_path / "absent" / "keys.json")


def test_a_month_lasts_from_its_first_to_its_last_millisecond_in_utc(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path / "keys.json")
    november = keys.month(at(2026, 11)).pseudonym(NUMBER)
    assert keys.month(at(2026, 12) - 1).pseudonym(NUMBER) == november
    december = keys.month(at(2026, 12)).pseudonym(NUMBER)
    assert keys.month(at(2027, 1) - 1).pseudonym(NUMBER) == december
    january = keys.month(at(2027, 1)).pseudonym(NUMBER)
    assert keys.month(at(2026, 11)).pseudonym(NUMBER) == november
    assert keys.hashes(NUMBER) == {"2026-11": november, "2026-12": december, "2027-01": january}
    assert len({november, december, january}) == 3


def test_two_processes_keep_the_months_that_each_creates(tmp_path: Path) -> None:
    """Two writers of one key file: neither may lose the month that the other has just created."""
    path = tmp_path / "keys.json"
    one, other = Keys.open(path), Keys.open(path)
    sealed = one.month(at(2026, 11)).seal(NUMBER, NONCE)
    other.month(at(2026, 12))
    one.month(at(2027, 1))
    for keys in (one, other, Keys.open(path)):
        assert keys.month(at(2026, 11)).unseal(sealed) == NUMBER
        assert list(keys.hashes(NUMBER)) == ["2026-11", "2026-12", "2027-01"]


def test_processes_that_need_a_new_month_at_once_agree_on_its_keys(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dialgate.crypto.keys import Keys\n"
        "keys = Keys.open(Path(sys.argv[1])); print(keys.log, keys.month(0).pseudonym('+390000000001').hex())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "keys.json")]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


def test_a_retired_month_is_unreadable_and_unlinkable_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    serving, command = Keys.open(path), Keys.open(path)
    sealed = serving.month(at(2026, 10)).seal(NUMBER, NONCE)
    newer = serving.month(at(2026, 11)).seal(NUMBER, NONCE)
    command.retire("2026-10")
    for keys in (serving, command, Keys.open(path)):
        with pytest.raises(KeyRetired, match="2026-10 are retired"):
            keys.month(at(2026, 10))
        with pytest.raises(KeysUnusable, match="cannot decrypt"):
            keys.month(at(2026, 11)).unseal(sealed)
        assert keys.month(at(2026, 11)).unseal(newer) == NUMBER
        assert list(keys.hashes(NUMBER)) == ["2026-11"]


@pytest.mark.parametrize("month", ["2026-11", "2026-09", "2026-12", "never"])
def test_only_a_past_month_with_keys_can_be_retired(tmp_path: Path, month: str) -> None:
    keys = Keys.open(tmp_path / "keys.json")
    keys.month(at(2026, 10))
    keys.month(at(2026, 11))
    with pytest.raises(KeysUnusable, match="not a past month"):
        keys.retire(month)
    assert list(keys.hashes(NUMBER)) == ["2026-10", "2026-11"]


def test_no_month_is_created_before_the_first_one(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path / "keys.json")
    keys.month(at(2026, 11))
    with pytest.raises(KeyRetired):
        keys.month(at(2026, 11) - 1)


def test_subjects_differ_between_controllers_and_outlive_restarts_and_months(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = Keys.open(path)
    names = {controller: keys.subject(controller, NUMBER) for controller in ("acme", "beta", "*", "")}
    assert len(set(names.values())) == 4
    assert {len(name) for name in names.values()} == {16}
    keys.month(at(2026, 10))
    keys.month(at(2026, 11))
    keys.retire("2026-10")
    again = Keys.open(path)
    assert {controller: again.subject(controller, NUMBER) for controller in names} == names
    assert keys.subject("acme", NUMBER + "8") != names["acme"]


def test_a_node_shares_subjects_but_neither_log_nor_months(tmp_path: Path) -> None:
    """The key file of another node is a copy without `log` and `months`."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    one = Keys.open(first)
    one.month(at(2026, 11))
    stored = msgspec.json.decode(first.read_bytes())
    second.write_bytes(msgspec.json.encode({key: stored[key] for key in ("format", "subject")}))
    second.chmod(0o600)
    other = Keys.open(second)
    assert other.subject("acme", NUMBER) == one.subject("acme", NUMBER)
    assert other.log != one.log
    assert other.month(at(2026, 11)).pseudonym(NUMBER) != one.month(at(2026, 11)).pseudonym(NUMBER)


@pytest.fixture(scope="module")
def november(tmp_path_factory: pytest.TempPathFactory) -> MonthKeys:
    return Keys.open(tmp_path_factory.mktemp("keys") / "keys.json").month(at(2026, 11))


@given(
    number=st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True), place=st.integers(0), bit=st.integers(0, 7)
)
def test_encrypted_numbers_can_be_decrypted_and_modified_ones_cannot(
    november: MonthKeys, number: str, place: int, bit: int
) -> None:
    """If any bit of an encrypted number is changed, decryption fails, and the error does not contain the number."""
    sealed = november.seal(number, NONCE)
    assert november.unseal(sealed) == number
    assert number.encode() not in sealed
    changed = bytearray(sealed)
    changed[place % len(sealed)] ^= 1 << bit
    for wrong in (bytes(changed), sealed[:-1], sealed[:7], b""):
        with pytest.raises(KeysUnusable) as failure:
            november.unseal(wrong)
        assert number not in str(failure.value)


def test_nonces_do_not_repeat_within_a_run_or_between_runs() -> None:
    runs = [list(islice(nonces(), 1000)) for _ in range(20)]
    assert len({nonce for run in runs for nonce in run}) == 20_000
    assert {len(nonce) for run in runs for nonce in run} == {12}


# ---- the keyed hash --------------------------------------------------------------------------------------------------


@given(key=st.binary(min_size=1, max_size=64), content=st.binary(max_size=700), size=st.integers(1, 64))
def test_the_keyed_hash_is_blake2b(key: bytes, content: bytes, size: int) -> None:
    keyed = KeyedHash(key, size)
    for _ in range(2):  # nothing stays of the first
        assert keyed.digest(content) == blake2b(content, key=key, digest_size=size).digest()


@pytest.mark.parametrize(("key", "size"), [(b"", 16), (b"k" * 65, 16), (b"k", 0), (b"k", 65)])
def test_an_invalid_key_or_size_of_a_hash_is_refused(key: bytes, size: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        KeyedHash(key, size)


@given(value=st.binary(min_size=16, max_size=16), decision=st.text(max_size=40))
def test_a_mask_is_the_hash_of_its_decision_and_its_own_inverse(value: bytes, decision: str) -> None:
    key = b"h" * 32
    month = MonthKeys(_MonthFile(hash=key, cipher=b"c" * 32))
    masked = month.mask(value, decision)
    assert month.mask(masked, decision) == value
    mask = blake2b(b"mask of " + decision.encode(), key=key, digest_size=16).digest()
    assert month.mask(bytes(16), decision) == mask
    for wrong in (value + b"x", value[1:]):
        with pytest.raises(ValueError, match="16 bytes"):
            month.mask(wrong, decision)
