"""Evidence bundles for a decision or for numbers, made in a process of its own: they may take much of the log."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from dialgate.audit import evidence
from dialgate.audit.evidence_sources import Sources
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import log_of
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log.chains import Chains
from dialgate.store import factory


class EvidenceOrder(Struct, frozen=True, kw_only=True):
    """Which decisions the evidence is about: one, or all about `numbers` (E.164) with `since` <= time < `until`."""

    decision: str = ""
    numbers: Sequence[str] = ()
    since: Instant | None = None
    until: Instant | None = None


def make_evidence(config: Config, order: EvidenceOrder, now: Instant) -> tuple[list[bytes], set[str]]:
    """Return a bundle for a decision, or one for each log, also for those of other nodes. Also return the called numbers.

    Raises `NoEvidence`, `HoldRefused`, `LogDamaged`, `KeysUnusable`, `StoreUnavailable`.
    """
    bundles = asyncio.run(_bundles(config, order, now))
    return bundles, {number for bundle in bundles for number in evidence.numbers_in(bundle)}


async def _bundles(config: Config, order: EvidenceOrder, now: Instant) -> list[bytes]:
    signer, chains = Signer.open(config.data / "signing.json", now), Chains(config.data, config.shipped)
    store = await factory.open_reader(config)
    bundles = []
    try:
        for log in _logs_of(config, chains, order.decision):
            sources = Sources.for_log(chains, log, signer=signer, store=store)
            if order.decision:
                bundles.append(await evidence.bundle_decision(sources, order.decision, now))
            else:
                bundle = await evidence.bundle_numbers(sources, order.numbers, now, order.since, order.until)
                bundles.append(bundle)
    finally:
        await store.close()
    return bundles


def _logs_of(config: Config, chains: Chains, decision: str) -> list[str]:
    """Return the log with the decision, or every log if `decision` is empty."""
    if not decision:
        return [log for home in chains.homes for log in home.logs]
    keys = Keys.open(config.data / "keys.json")
    log = log_of(keys.ids.inside(decision))
    return [log if log in chains.readers else keys.log]
