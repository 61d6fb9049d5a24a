"""Tests of the limits on failed sign-ins, and of the cost of a guess."""

import pytest

from dialgate.people.credentials import PasswordHashing
from dialgate.people.sign_in_limits import OF_ACCOUNT, OF_ADDRESS, SPAN, SignInLimits, TooManySignIns
from tests.support.world import Hand


def test_an_address_may_fail_ten_times_for_one_account_and_fifty_times_in_all() -> None:
    hand = Hand()
    limits = SignInLimits(hand)
    for place in range(OF_ADDRESS):
        account = f"account-{place // OF_ACCOUNT}"
        limits.begin(account, "192.0.2.1", "")
        if place % OF_ACCOUNT == OF_ACCOUNT - 1 and place < OF_ADDRESS - 1:
            with pytest.raises(TooManySignIns):
                limits.begin(account, "192.0.2.1", "")
    with pytest.raises(TooManySignIns) as error:
        limits.begin("another", "192.0.2.1", "")
    assert error.value.after == SPAN // 1000
    limits.begin("another", "192.0.2.2", "")
    hand.at += SPAN
    limits.begin("another", "192.0.2.1", "")


def test_the_addresses_of_one_ipv6_network_count_together() -> None:
    limits = SignInLimits(Hand())
    for place in range(OF_ACCOUNT):
        limits.begin("anna", f"2001:db8::{place:x}", "")
    with pytest.raises(TooManySignIns):
        limits.begin("anna", "2001:db8::ffff", "")
    limits.begin("anna", "2001:db8:0:1::1", "")


def test_success_forgets_the_failures_of_the_account_and_not_those_of_the_address() -> None:
    limits = SignInLimits(Hand())
    for _ in range(OF_ADDRESS - 1):
        limits.begin("anna", "192.0.2.1", "")
        limits.succeed("anna", "192.0.2.1", "")
    for place in range(OF_ADDRESS):
        limits.begin(f"account-{place}", "192.0.2.1", "")
    with pytest.raises(TooManySignIns):
        limits.begin("anna", "192.0.2.1", "")
    for _ in range(OF_ACCOUNT):
        limits.begin("anna", "192.0.2.1", "known")
    with pytest.raises(TooManySignIns):
        limits.begin("anna", "192.0.2.1", "known")


async def test_a_stored_password_costs_what_rfc_9106_recommends_to_guess() -> None:
    hashing = PasswordHashing()
    stored = await hashing.hash("correct horse battery")
    hashing.close()
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
