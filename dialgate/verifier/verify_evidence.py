"""Checks evidence that a dialgate made of its decisions. Needs Python 3.9 or newer and `cryptography`, nothing else.

    python verify_evidence.py BUNDLE [--key NAME ...]

Exit 0: all of it holds; 1: it does not, and must not be relied on; 2: misuse. A key is named by the first 16 hexadecimal
digits of the SHA-256 of its public half. Have the names from whoever runs the gate by another way than the bundle, and
give them with --key: without, this shows only that the bundle is whole, not who made it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE = re.compile(rb'\{"signature":"([0-9a-f]{128})","key":"([0-9a-f]{64})","evidence":(\{.*\})\}\n')


class Refused(Exception):
    pass


def need(holds: object, why: str) -> None:
    if not holds:
        raise Refused(why)


def key_name(public: bytes) -> str:
    return sha256(public).hexdigest()[:16]


def need_signature(public: bytes, signature: bytes, message: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused(f"the signature of {what} does not hold") from None


def merkle_root(body: bytes, leaf: int, size: int, path: list[bytes]) -> bytes | None:
    """RFC 9162, 2.1.3.2: the root of a tree of `size` leaves in which this is number `leaf`; none where the path is not
    as long as it must be."""
    found = sha256(b"\0" + body).digest()
    here, last = leaf, size - 1
    for step in path:
        if not last:
            return None
        if here & 1 or here == last:
            found = sha256(b"\1" + step + found).digest()
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            found = sha256(b"\1" + found + step).digest()
        here, last = here >> 1, last >> 1
    return None if last else found


def opened(data: bytes, trusted: frozenset[str]) -> dict[str, Any]:
    """The body of a bundle whose every byte its signature speaks for."""
    frame = BUNDLE.fullmatch(data)
    if frame is None:
        raise Refused("this is no bundle of evidence, or its frame was changed")
    signature, key, body = frame.groups()
    public = bytes.fromhex(key.decode())
    need_signature(public, bytes.fromhex(signature.decode()), b"dialgate evidence\n" + body, "the bundle")
    evidence: dict[str, Any] = json.loads(body)
    need(
        evidence["format"] == 1,
        f"format {evidence['format']} is not known here: take the verifier of that version",
    )
    names = {key_name(public), *evidence["keys"]}
    need(not trusted or names <= trusted, f"signed by {', '.join(sorted(names))}, which you did not name")
    return evidence


def checkpoints(evidence: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for stored in evidence["checkpoints"]:
        body = stored["body"].encode()
        checkpoint = json.loads(body)
        public = bytes.fromhex(evidence["keys"][checkpoint["key"]])
        need(key_name(public) == checkpoint["key"], "a key has another's name")
        what = f"the checkpoint of record {checkpoint['size']}"
        need_signature(public, bytes.fromhex(stored["signature"]), b"dialgate checkpoint\n" + body, what)
        need(checkpoint["log"] == evidence["log"], f"{what} is another log's")
        yield checkpoint


def entries(evidence: dict[str, Any], signed: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the log held, by checkpoint and sequence."""
    for stored in evidence["entries"]:
        body, seq, checkpoint = stored["body"].encode(), stored["seq"], signed[stored["checkpoint"]]
        path = [bytes.fromhex(step) for step in stored["path"]]
        need(0 < seq <= checkpoint["size"], f"record {seq} lies beyond its checkpoint")
        root = merkle_root(body, seq - 1, checkpoint["size"], path)
        need(root == bytes.fromhex(checkpoint["root"]), f"record {seq} is not in the log that was signed")
        entry = json.loads(body)
        need(entry["seq"] == seq, f"record {seq} has another number")
        yield seq, entry


def need_kept(evidence: dict[str, Any], grounds: dict[str, Any]) -> None:
    """Law and configuration are the texts that the grounds name."""
    kept = evidence["kept"]
    for digest, text in kept.items():
        need(sha256(text.encode()).hexdigest() == digest, f"a text that was kept is not {digest}")
    need(
        grounds["law"] in kept and grounds["config"] in kept,
        f"law or configuration of {grounds['seq']} is missing",
    )
    files = [line.split(" ")[-1] for line in kept[grounds["config"]].splitlines()]
    need(all(digest in kept for digest in files), "a file of the configuration is missing")


def need_named(finding: dict[str, Any], facts: dict[str, Any]) -> None:
    """What is said besides the record is about what the record names."""
    consulted = {answer.get("consultation") for answer in facts.get("registries", ())}
    consented = {consent["id"] for consent in facts.get("known", {}).get("consents", ())}
    need(
        {each["id"] for each in finding["consultations"]} <= consulted,
        "a receipt that the record does not name",
    )
    need({each["id"] for each in finding["consents"]} <= consented, "a consent that the record does not name")


def decisions(evidence: dict[str, Any], held: dict[int, dict[str, Any]]) -> Iterator[str]:
    for finding in evidence["decisions"]:
        decided, grounds = held[finding["seq"]], held[finding["grounds"]]
        need(
            decided["type"] == "decision" and grounds["type"] == "grounds",
            "an entry is not what it is said to be",
        )
        need(
            decided["id"] == finding["id"] == f"{evidence['log']}-{finding['seq']}",
            "a decision has another id",
        )
        need(decided["grounds"] == finding["grounds"] < finding["seq"], "a decision has other grounds")
        need(decided["allow"] == grounds["decision"]["allow"], "a decision says other than its grounds")
        need_kept(evidence, grounds)
        need_named(finding, grounds["facts"])
        yield told(finding, decided, grounds)


def told(finding: dict[str, Any], decided: dict[str, Any], grounds: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(decided["at"] / 1000, timezone.utc).isoformat(
        sep=" ", timespec="milliseconds"
    )
    outcomes = grounds["decision"]["outcomes"].values()
    reasons = [f"{outcome[1]} ({outcome[3]})" for outcome in outcomes if outcome[0] == "deny"]
    verdict = "allow" if decided["allow"] else "deny"
    called = finding["number"] or "a number whose keys are destroyed"
    caller = grounds["facts"]["caller_id"]["number"]
    receipts = [f"registry receipt {each['receipt']}" for each in finding["consultations"]]
    consents = [
        f"consent {each['id']}: {each['artefact']} {each['artefact_sha256']}" for each in finding["consents"]
    ]
    return "; ".join(
        [f"{finding['id']}  {at}  {verdict}  {caller} to {called}", *reasons, *receipts, *consents]
    )


def checked(data: bytes, trusted: frozenset[str] = frozenset()) -> list[str]:
    """What the bundle proves, a line each. Raises Refused."""
    try:
        evidence = opened(data, trusted)
        signed = list(checkpoints(evidence))
        lines = list(decisions(evidence, dict(entries(evidence, signed))))
        held = {finding["id"] for finding in evidence["decisions"]}
        for asked in evidence["asked"]:
            need(held >= set(asked["decisions"]), "a decision that was asked for is missing")
            lines.append(f"{asked['number']}: {len(asked['decisions'])} decisions")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Refused(f"it is not as a bundle must be: {error!r}") from None
    return [*lines, f"signed by {', '.join(sorted(evidence['keys']))}, log {evidence['log']}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", action="append", default=[], help="name of a key that you trust")
    asked = parser.parse_args()
    try:
        lines = checked(asked.bundle.read_bytes(), frozenset(asked.key))
    except (Refused, OSError) as refused:
        sys.exit(f"REFUSED: {refused}")
    print(*lines, "It holds.", sep="\n")


if __name__ == "__main__":
    main()
