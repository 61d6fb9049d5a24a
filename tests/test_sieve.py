"""What a sieve says is not there must not be there: an allow may hang on it."""

from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialgate.store.sieve import KEY_BYTES, Sieve

KEYS = st.lists(st.binary(min_size=1, max_size=20), max_size=50)


@given(one_by_one=KEYS, together=KEYS, others=KEYS)
def test_every_key_that_was_added_passes_in_order_and_once(
    one_by_one: list[bytes], together: list[bytes], others: list[bytes]
) -> None:
    """Invariant: however keys are added, none that is there is ever kept back."""
    sieve = Sieve(1)
    sieve.add(one_by_one)
    sieve.add(together)
    there = set(one_by_one) | set(together)
    asked = one_by_one + others + together
    passed = sieve.passes(asked)
    assert [key for key in passed if key in there] == list(
        dict.fromkeys(key for key in asked if key in there)
    )
    assert len(passed) == len(set(passed))


def keys(kind: str, count: int) -> list[bytes]:
    return [blake2b(f"{kind}{n}".encode(), digest_size=KEY_BYTES).digest() for n in range(count)]


@pytest.mark.parametrize("count", [1_000, 300_000])
def test_few_keys_that_are_not_there_pass(count: int) -> None:
    sieve = Sieve(count)
    sieve.add(keys("there", count))
    assert len(sieve.passes(keys("there", count))) == count
    assert len(sieve.passes(keys("absent", 20_000))) < 20_000 / 200
    assert not sieve.full


def test_it_is_full_when_it_holds_twice_what_it_was_made_for() -> None:
    sieve = Sieve(1 << 18)
    sieve.add(keys("there", 1 << 19))
    assert not sieve.full
    sieve.add(keys("more", 1))
    assert sieve.full
