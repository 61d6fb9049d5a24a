"""Agents' IDs in the log, encrypted with a month's keys, so that they end with them."""

from dialgate.crypto.keys import MonthKeys
from dialgate.crypto.nonces import NONCE_BYTES


def seal_agent(month: MonthKeys, agent: str) -> bytes:
    """Encrypt an ID. The nonce is a keyed hash of it, so equal IDs give equal results. `MonthKeys.unseal` decrypts it."""
    return month.seal(agent, month.pseudonym(f"agent {agent}")[:NONCE_BYTES])
