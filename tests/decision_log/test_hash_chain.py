"""Tests of the hash chain, which is written and followed as hashlib computes it."""

from hashlib import sha256

from hypothesis import assume, given
from hypothesis import strategies as st

from dialgate.decision_log.hash_chain import chained, followed

BODIES = st.lists(
    st.one_of(st.binary(max_size=300), st.integers(0, 260).map(bytes)).map(lambda body: body.replace(b"\n", b"")),
    max_size=12,
)  # fmt: skip
HEAD = sha256(b"before").digest()


@given(bodies=BODIES, most=st.integers(-1, 14), cut=st.integers(0, 60))
def test_a_chain_is_followed(bodies: list[bytes], most: int, cut: int) -> None:
    """The hashes must equal those of hashlib. `followed` must read at most `most` lines, all of them complete."""
    head, expected = HEAD, b""
    heads = [HEAD]
    for body in bodies:
        head = sha256(head + body).digest()
        heads.append(head)
        expected += b'{"hash":"%b","entry":%b}\n' % (head.hex().encode(), body)
    lines, end = chained(HEAD, bodies)
    assert (lines, end) == (expected, head)
    data = lines[: len(lines) - cut]
    whole = data.count(b"\n")
    count = max(min(whole, most), 0)
    new_head, leaves, length = followed(HEAD, data, most)
    assert leaves == [sha256(b"\0" + body).digest() for body in bodies[:count]]
    assert (new_head, length) == (heads[count], sum(len(body) + 85 for body in bodies[:count]))


@given(bodies=BODIES, at=st.integers(0, 4_000), byte=st.integers(0, 255))
def test_a_chain_is_followed_up_to_a_changed_byte(bodies: list[bytes], at: int, byte: int) -> None:
    lines, _ = chained(HEAD, bodies)
    assume(at < len(lines) and lines[at] != byte)
    _, leaves, length = followed(HEAD, lines[:at] + bytes([byte]) + lines[at + 1 :], 100)
    count = lines[:at].count(b"\n")
    assert leaves == [sha256(b"\0" + body).digest() for body in bodies[:count]]
    assert length == sum(len(body) + 85 for body in bodies[:count])
