"""Checks evidence that a dialgate made of its decisions. Needs Python 3.9 or newer and `cryptography`, nothing else.

    python verify_evidence.py BUNDLE [--key NAME ...] [--root FILE]

Exit 0: all of it holds; 1: it does not, and must not be relied on; 2: misuse. A key is named by the first 16 hexadecimal
digits of the SHA-256 of its public half. Have the names from whoever runs the gate by another way than the bundle, and
give them with --key: without, this shows only that the bundle is whole, not who made it. A time stamp (RFC 3161) is checked
up to its authority's root certificate, which you have from that authority: a PEM file, with --root. Whether a certificate
was revoked is not looked up.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
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


def signer(data: bytes) -> str:
    frame = BUNDLE.fullmatch(data)
    return key_name(bytes.fromhex(frame[2].decode())) if frame else ""


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
        evidence["format"] in (1, 2),
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
    files = listed(evidence, grounds["config"])
    need(grounds["law"] in files, f"the law of {grounds['seq']} is not among its configuration's files")
    need(evidence["format"] > 1 or all(files), "a file of the configuration is missing")


def listed(evidence: dict[str, Any], config: str) -> list[str]:
    """The hash of each file of a configuration, or "" for one that the bundle does not show. The list holds the hash of
    the entry of each file, or, in older logs, the entry itself: its name and its hash."""
    kept = evidence["kept"]
    entries = [line if " " in line else kept.get(line, "") for line in kept[config].splitlines()]
    hashes = [entry.split(" ")[-1] for entry in entries]
    return [digest if digest in kept else "" for digest in hashes]


def configuration(evidence: dict[str, Any]) -> str:
    """How much of the configuration the bundle shows."""
    kept = evidence["kept"]
    names = {json.loads(each["body"]).get("config") for each in evidence["entries"]} - {None}
    files = [digest for name in names for digest in listed(evidence, name)] if names <= kept.keys() else []
    hidden = files.count("")
    return (
        f"; of {len(files)} files of the configuration {hidden} are shown by their hash alone"
        if hidden
        else ""
    )


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
    reported = elsewhere(evidence)
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
        yield told(finding, decided, grounds, [*outcomes(finding, held), *reported.get(finding["id"], ())])


def outcomes(finding: dict[str, Any], held: dict[int, dict[str, Any]]) -> Iterator[str]:
    for seq in finding.get("outcomes", ()):  # bundles of before have none
        entry = held[seq]
        need(
            entry["type"] == "outcome" and entry["decision"] == finding["id"],
            "an outcome is another decision's",
        )
        yield became(entry)


def elsewhere(evidence: dict[str, Any]) -> dict[str, list[str]]:
    """What other logs of the same gate hold of what became of the calls, by decision."""
    ids = {finding["id"] for finding in evidence["decisions"]}
    found: dict[str, list[str]] = {}
    for part in evidence.get("elsewhere", ()):
        signed = list(checkpoints({**evidence, **part}))
        for seq, entry in entries(part, signed):
            need(
                entry["type"] == "outcome" and entry["decision"] in ids,
                "an outcome is another decision's",
            )
            found.setdefault(entry["decision"], []).append(
                f"{became(entry)} (record {seq} of log {part['log']})"
            )
    return found


def became(entry: dict[str, Any]) -> str:
    return f"outcome {entry['result']}, reported {instant(entry['at'])}"


def within(evidence: dict[str, Any]) -> str:
    since, until = evidence.get("since"), evidence.get("until")
    return (f" from {instant(since)} on" if since else "") + (f" before {instant(until)}" if until else "")


def instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).isoformat(sep=" ", timespec="milliseconds")


def told(finding: dict[str, Any], decided: dict[str, Any], grounds: dict[str, Any], became: list[str]) -> str:
    at = instant(decided["at"])
    outcomes = grounds["decision"]["outcomes"].values()
    reasons = [f"{outcome[1]} ({outcome[3]})" for outcome in outcomes if outcome[0] == "deny"]
    verdict = "allow" if decided["allow"] else "deny"
    called = finding["number"] or "a number whose keys are destroyed"
    sealed = decided.get("caller_sealed")
    caller = "an unassigned caller ID" if sealed else grounds["facts"]["caller_id"]["number"]
    receipts = [f"registry receipt {each['receipt']}" for each in finding["consultations"]]
    consents = [
        f"consent {each['id']}: {each['artefact']} {each['artefact_sha256']}" for each in finding["consents"]
    ]
    return "; ".join(
        [f"{finding['id']}  {at}  {verdict}  {caller} to {called}", *reasons, *receipts, *consents, *became]
    )


# ---- time stamps -----------------------------------------------------------------------------------------------------

DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "608648016503040201": hashes.SHA256(),
    "608648016503040202": hashes.SHA384(),
    "608648016503040203": hashes.SHA512(),
}
MESSAGE_DIGEST, TIME_STAMPING = "2a864886f70d010904", "1.3.6.1.5.5.7.3.8"
CERTIFICATES = 0xA0  # the tag that they stand under


def der(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Of each value, one after the other: its tag, its content, and all of it. Raises IndexError, ValueError."""
    found, at = [], 0
    while at < len(data):
        tag, length, begin = data[at], data[at + 1], at + 2
        if length & 128:
            begin += length & 127
            length = int.from_bytes(data[at + 2 : begin], "big")
        if begin + length > len(data):
            raise ValueError("a time stamp is cut short")
        found.append((tag, data[begin : begin + length], data[at : begin + length]))
        at = begin + length
    return found


def digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    made = hashes.Hash(algorithm)
    made.update(data)
    return made.finalize()


def is_by(
    certificate: x509.Certificate, signed: bytes, signature: bytes, algorithm: hashes.HashAlgorithm
) -> bool:
    public = certificate.public_key()
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def stamped(response: bytes, message: bytes) -> tuple[datetime, x509.Certificate, list[x509.Certificate]]:
    """When (RFC 3161, 2.4.2), by whom, and the certificates that came with it (RFC 5652, 5.1)."""
    status, token = der(der(response)[0][1])[:2]
    need(der(status[1])[0][1] in {b"\0", b"\1"}, "a time stamp was refused by its authority")
    signed_data = der(der(der(token[1])[1][1])[0][1])
    content = der(der(signed_data[2][1])[1][1])[0][1]
    info = der(der(content)[0][1])
    algorithm, imprint = der(info[2][1])
    need(imprint[1] == digest(DIGESTS[named(algorithm)], message), "a time stamp is of another checkpoint")
    between = [
        x509.load_der_x509_certificate(whole)
        for tag, inner, _ in signed_data
        if tag == CERTIFICATES
        for _, _, whole in der(inner)
    ]
    at = datetime.strptime(info[4][1].decode()[:14], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return at, signer_of(der(der(signed_data[-1][1])[0][1]), content, between), between


def signer_of(
    signer: list[tuple[int, bytes, bytes]], content: bytes, between: list[x509.Certificate]
) -> x509.Certificate:
    algorithm = DIGESTS[named(signer[2])]
    attributes = {named(each): der(der(each[1])[1][1])[0][1] for each in der(signer[3][1])}
    need(attributes.get(MESSAGE_DIGEST) == digest(algorithm, content), "a time stamp was changed")
    signed = b"\x31" + signer[3][2][1:]  # as the set that it is: it is stored under another tag
    by = [each for each in between if stamps_time(each) and is_by(each, signed, signer[5][1], algorithm)]
    need(by, "the signature of a time stamp does not hold")
    return by[0]


def named(value: tuple[int, bytes, bytes]) -> str:
    """The object identifier that a sequence begins with."""
    return der(value[1])[0][1].hex()


def stamps_time(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return TIME_STAMPING in {each.dotted_string for each in uses}


def leads_to(
    certificate: x509.Certificate,
    between: list[x509.Certificate],
    roots: list[x509.Certificate],
    at: datetime,
) -> bool:
    """Whether it was issued under one of the roots, each certificate on the way being valid then."""
    for _ in range(8):
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            return False
        if certificate in roots or any(issued(certificate, root) for root in roots):
            return True
        above = [each for each in between if each != certificate and issued(certificate, each)]
        if not above:
            return False
        certificate = above[0]
    return False


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
        return issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False


def time_stamps(
    evidence: dict[str, Any], signed: list[dict[str, Any]], roots: list[x509.Certificate]
) -> Iterator[str]:
    for stamp in evidence.get("stamps", ()):
        stored, size = evidence["checkpoints"][stamp["checkpoint"]], signed[stamp["checkpoint"]]["size"]
        line = b'{"signature":"%b","checkpoint":%b}\n' % (
            stored["signature"].encode(),
            stored["body"].encode(),
        )
        at, by, between = stamped(base64.b64decode(stamp["response"], validate=True), line)
        need(not roots or leads_to(by, between, roots, at), "a time stamp leads to no root that you gave")
        trust = "" if roots else "; NOT CHECKED: who that is (give its root certificate with --root)"
        yield f"records up to {size} were there by {at:%Y-%m-%d %H:%M:%S} UTC: time stamp of {by.subject.rfc4514_string()}{trust}"


# ---- all of it -------------------------------------------------------------------------------------------------------


def checked(
    data: bytes, trusted: frozenset[str] = frozenset(), roots: list[x509.Certificate] | None = None
) -> list[str]:
    """What the bundle proves, a line each. Raises Refused."""
    try:
        evidence = opened(data, trusted)
        signed = list(checkpoints(evidence))
        lines = list(decisions(evidence, dict(entries(evidence, signed))))
        held = {finding["id"] for finding in evidence["decisions"]}
        for asked in evidence["asked"]:
            need(held >= set(asked["decisions"]), "a decision that was asked for is missing")
            lines.append(f"{asked['number']}: {len(asked['decisions'])} decisions{within(evidence)}")
        stamps = list(time_stamps(evidence, signed, roots or []))
        shown = configuration(evidence)
        without = len(signed) - len({each["checkpoint"] for each in evidence.get("stamps", ())})
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise Refused(f"it is not as a bundle must be: {error!r}") from None
    by = f"signed by {', '.join(sorted({*evidence['keys'], signer(data)}))}, log {evidence['log']}"
    if evidence["asked"]:
        lines.append("that there are no other decisions about these numbers is the signer's word")
    more = f"; {without} of {len(signed)} checkpoints bear no time stamp: when they were made is the signer's word"
    return [*lines, *stamps, by + more * bool(without) + shown]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", action="append", default=[], help="name of a key that you trust")
    parser.add_argument(
        "--root", type=Path, help="PEM file of root certificates of time stamping authorities"
    )
    asked = parser.parse_args()
    try:
        roots = x509.load_pem_x509_certificates(asked.root.read_bytes()) if asked.root else []
        lines = checked(asked.bundle.read_bytes(), frozenset(asked.key), roots)
    except (Refused, OSError, ValueError) as refused:
        sys.exit(f"REFUSED: {refused}")
    print(*lines, "It holds.", sep="\n")


if __name__ == "__main__":
    main()
