"""Evidence bundles for a decision or for numbers, made in a process of its own: they may take much of the log."""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from dialgate.audit import evidence
from dialgate.config.configuration import Config
from dialgate.core.decision_ids import log_of
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log import chains
from dialgate.store import factory


class EvidenceOrder(Struct, frozen=True, kw_only=True):
    """Which decisions the evidence is about: one, or all about `numbers` (E.164) with `since` <= time < `until`."""

    decision: str = ""
    numbers: Sequence[str] = ()
    since: Instant | None = None
    until: Instant | None = None


def make_evidence(config: Config, order: EvidenceOrder, now: Instant) -> tuple[list[bytes], set[str]]:
    """Return a bundle for a decision, or one for each log of the node. Also return the called numbers in them.

    Raises `NoEvidence`, `HoldRefused`, `LogDamaged`, `KeysUnusable`, `StoreUnavailable`.
    """
    bundles = asyncio.run(_bundles(config, order, now))
    return bundles, {number for bundle in bundles for number in evidence.numbers_in(bundle)}


async def _bundles(config: Config, order: EvidenceOrder, now: Instant) -> list[bytes]:
    path, signer = config.data / "keys.json", Signer.open(config.data / "signing.json", now)
    store = await factory.open_reader(config)
    bundles = []
    try:
        for number in _logs_of(config, order.decision):
            sources = evidence.Sources.from_folder(
                config.data, keys=Keys.open(path, number), signer=signer, store=store, number=number
            )
            if order.decision:
                bundles.append(await evidence.bundle_decision(sources, order.decision, now))
            else:
                bundle = await evidence.bundle_numbers(sources, order.numbers, now, order.since, order.until)
                bundles.append(bundle)
    finally:
        await store.close()
    return bundles


def _logs_of(config: Config, decision: str) -> list[int]:
    """Return the number of the log with the decision, or of every log if `decision` is empty."""
    if not decision:
        return list(chains.folders(config.data))
    keys = Keys.open(config.data / "keys.json")
    return [chains.number_of(config.data, keys.log, log_of(keys.ids.inside(decision))) or 1]
