"""A verifier for evidence bundles. Needs Python 3.9 or newer and `cryptography`, nothing else.

    python verify_evidence.py BUNDLE [--key NAME ...] [--root FILE] [--files FOLDER]

The exit code is 0 if the bundle is valid, 1 if it is not valid and must not be relied on, and 2 for a usage error.

A key's name is the first 16 hexadecimal digits of the SHA-256 of the public key. Get the names from the gate's
operator, separately from the bundle, and pass them with --key. Without --key the result shows only that the
bundle is complete and unchanged, not who made it.

A time stamp (RFC 3161) is checked up to the root certificate of the authority that issued it. Get this
certificate from the authority and pass it with --root, as a PEM file. Certificate revocation is not checked.

A bundle can enclose the files that prove consents, such as signed forms. --files writes them to a folder, named after
their SHA-256. They come from outside the gate: open them with care.
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

FORMAT = 2
BUNDLE = re.compile(rb'\{"signature":"([0-9a-f]{128})","key":"([0-9a-f]{64})","evidence":(\{.*\})\}\n')


class EvidenceRefused(Exception):
    """Raised for an invalid bundle. The message says why."""


def require(condition: object, why: str) -> None:
    if not condition:
        raise EvidenceRefused(why)


def key_name(public: bytes) -> str:
    return sha256(public).hexdigest()[:16]


def require_signature(public: bytes, signature: bytes, message: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise EvidenceRefused(f"the signature of {what} is not valid") from None


def merkle_root(body: bytes, leaf: int, size: int, path: list[bytes]) -> bytes | None:
    """Compute a Merkle tree's root from one log entry and its audit path (RFC 9162, 2.1.3.2).

    The tree has `size` leaves. `body` is the entry, and `leaf` is its index, counted from 0. Return None if `path` has
    the wrong length.
    """
    node = sha256(b"\0" + body).digest()
    here, last = leaf, size - 1
    for step in path:
        if not last:
            return None
        if here & 1 or here == last:
            node = sha256(b"\1" + step + node).digest()
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            node = sha256(b"\1" + node + step).digest()
        here, last = here >> 1, last >> 1
    return None if last else node


def read_body(data: bytes, trusted: frozenset[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the body of a bundle after checking its signature, and the sorted names of all signing keys."""
    frame = BUNDLE.fullmatch(data)
    if frame is None:
        raise EvidenceRefused("this is not an evidence bundle, or its outer structure was changed")
    signature, key, body = frame.groups()
    public = bytes.fromhex(key.decode())
    require_signature(public, bytes.fromhex(signature.decode()), b"dialgate evidence\n" + body, "the bundle")
    evidence: dict[str, Any] = json.loads(body)
    require(
        evidence["format"] == FORMAT,
        f"format {evidence['format']} is unknown. Use the verifier from the version that made the bundle",
    )
    names = sorted({key_name(public), *evidence["keys"]})
    require(
        not trusted or trusted.issuperset(names),
        f"signed by {', '.join(names)}, which is not among the keys given with --key",
    )
    return evidence, names


def checkpoints(evidence: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for stored in evidence["checkpoints"]:
        body = stored["body"].encode()
        checkpoint = json.loads(body)
        public = bytes.fromhex(evidence["keys"][checkpoint["key"]])
        require(key_name(public) == checkpoint["key"], "a key does not match its name")
        what = f"the checkpoint for record {checkpoint['size']}"
        require_signature(public, bytes.fromhex(stored["signature"]), b"dialgate checkpoint\n" + body, what)
        require(checkpoint["log"] == evidence["log"], f"{what} belongs to another log")
        yield checkpoint


def entries(evidence: dict[str, Any], signed: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Check each log entry against its checkpoint. Yield the entry's sequence number and the entry."""
    for stored in evidence["entries"]:
        body, seq, checkpoint = stored["body"].encode(), stored["seq"], signed[stored["checkpoint"]]
        path = [bytes.fromhex(step) for step in stored["path"]]
        require(0 < seq <= checkpoint["size"], f"record {seq} is not covered by its checkpoint")
        root = merkle_root(body, seq - 1, checkpoint["size"], path)
        require(root == bytes.fromhex(checkpoint["root"]), f"record {seq} is not in the log that was signed")
        entry = json.loads(body)
        require(entry["seq"] == seq, f"record {seq} contains a different sequence")
        yield seq, entry


def require_kept(evidence: dict[str, Any], grounds: dict[str, Any]) -> None:
    """Check that the bundle contains the law and the configuration named in the grounds.

    Also check the hash of each text in `kept`.
    """
    kept = evidence["kept"]
    for digest, text in kept.items():
        require(sha256(text.encode()).hexdigest() == digest, f"a kept text does not have the hash {digest}")
    require(
        grounds["law"] in kept and grounds["config"] in kept,
        f"the law or configuration for record {grounds['seq']} is missing",
    )
    files = file_hashes(evidence, grounds["config"])
    require(grounds["law"] in files, f"the law for record {grounds['seq']} is not in its configuration")


def file_hashes(evidence: dict[str, Any], config: str) -> list[str]:
    """Return the hash of each file of a configuration, or "" for a file that is not in the bundle.

    A configuration is stored as a list with one line per file: the hash of the entry `<file name> <file hash>`.
    """
    kept = evidence["kept"]
    hashes = [kept.get(line, "").split(" ")[-1] for line in kept[config].splitlines()]
    return [digest if digest in kept else "" for digest in hashes]


def configuration(evidence: dict[str, Any]) -> str:
    """Return a note on the configuration files that the bundle shows only by hash, or "" if there are none."""
    kept = evidence["kept"]
    names = {json.loads(entry["body"]).get("config") for entry in evidence["entries"]} - {None}
    files = (
        [digest for name in names for digest in file_hashes(evidence, name)] if names <= kept.keys() else []
    )
    hidden = files.count("")
    return f"; of {len(files)} configuration files {hidden} are shown only by their hash" if hidden else ""


def require_named(finding: dict[str, Any], facts: dict[str, Any], own: dict[str, Any]) -> None:
    """Check that the decision's facts name every receipt and consent in the finding.

    What is stored about the number stands in the decision's own grounds, in older records in the shared facts.
    """
    consulted = {answer.get("consultation") for answer in facts.get("registries", ())}
    known = own.get("entries") or facts.get("known", {})
    consents = {consent["id"] for consent in known.get("consents", ())}
    require(
        {consultation["id"] for consultation in finding["consultations"]} <= consulted,
        "a receipt is not named in the record",
    )
    require(
        {consent["id"] for consent in finding["consents"]} <= consents, "a consent is not named in the record"
    )


def decisions(evidence: dict[str, Any], by_seq: dict[int, dict[str, Any]]) -> Iterator[str]:
    """Check each decision and yield a line about it."""
    reported = elsewhere(evidence)
    for finding in evidence["decisions"]:
        decision, grounds = by_seq[finding["seq"]], by_seq[finding["grounds"]]
        require(
            decision["type"] == "decision" and grounds["type"] == "grounds",
            "an entry's type differs from the type in the bundle",
        )
        require(
            decision["id"] == finding["id"] == f"{evidence['log']}-{finding['seq']}",
            "a decision has the wrong id",
        )
        require(
            decision["grounds"] == finding["grounds"] < finding["seq"], "a decision has the wrong grounds"
        )
        outcomes_ = {**grounds["decision"]["outcomes"], **decision.get("own", {}).get("outcomes", {})}
        denies = [outcome for outcome in outcomes_.values() if outcome[0] == "deny"]
        require(decision["allow"] == (not denies), "a decision contradicts its grounds")
        require_kept(evidence, grounds)
        require_named(finding, grounds["facts"], decision.get("own", {}))
        results = [*outcomes(finding, by_seq), *reported.get(finding["id"], ())]
        yield describe(finding, decision, grounds, denies, results)


def outcomes(finding: dict[str, Any], by_seq: dict[int, dict[str, Any]]) -> Iterator[str]:
    for seq in finding["outcomes"]:
        entry = by_seq[seq]
        require(
            entry["type"] == "outcome" and entry["decision"] == finding["id"],
            "an outcome belongs to another decision",
        )
        yield describe_outcome(entry)


def elsewhere(evidence: dict[str, Any]) -> dict[str, list[str]]:
    """Check the outcomes that other logs of the gate contain. Return the outcomes as text lines, keyed by decision id."""
    ids = {finding["id"] for finding in evidence["decisions"]}
    lines: dict[str, list[str]] = {}
    for part in evidence.get("elsewhere", ()):
        signed = list(checkpoints({**evidence, **part}))
        for seq, entry in entries(part, signed):
            require(
                entry["type"] == "outcome" and entry["decision"] in ids,
                "an outcome belongs to another decision",
            )
            lines.setdefault(entry["decision"], []).append(
                f"{describe_outcome(entry)} (record {seq} in log {part['log']})"
            )
    return lines


def describe_outcome(entry: dict[str, Any]) -> str:
    return f"outcome {entry['result']}, reported {instant(entry['at'])}"


def within(evidence: dict[str, Any]) -> str:
    since, until = evidence.get("since"), evidence.get("until")
    return (f" from {instant(since)}" if since else "") + (f" before {instant(until)}" if until else "")


def files(evidence: dict[str, Any]) -> dict[str, bytes]:
    """Return the files that prove consents, by SHA-256. Older bundles have none."""
    decoded = {
        name: base64.b64decode(content, validate=True) for name, content in evidence.get("proofs", {}).items()
    }
    named = {
        consent["artefact_sha256"].lower()
        for finding in evidence["decisions"]
        for consent in finding["consents"]
    }
    for name, content in decoded.items():
        require(name in named, "a file is enclosed that no consent names")
        require(sha256(content).hexdigest() == name, "a file that proves a consent was changed")
    return decoded


def describe_files(evidence: dict[str, Any]) -> Iterator[str]:
    for name, content in files(evidence).items():
        yield f"file {name}: enclosed, {len(content):,} bytes; its SHA-256 is the one recorded with the consent"
    for name, why in evidence.get("left_out", {}).items():
        yield f"file {name}: NOT ENCLOSED: {why}"


def instant(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, timezone.utc).isoformat(sep=" ", timespec="milliseconds")


def recorded(consent: dict[str, Any]) -> str:
    """Return the time of entry, which older bundles lack."""
    return f", recorded {instant(consent['recorded_at'])}" if "recorded_at" in consent else ""


def other_proofs(consent: dict[str, Any]) -> str:
    """Return the consent's certificate and CRM reference, which older bundles lack."""
    text = ""
    if consent.get("certificate_url"):
        text += f", certificate {consent['certificate_url']} claim {consent['certificate_claim']}"
    if consent.get("crm_reference"):
        text += f", CRM record {consent['crm_reference']} attested by {consent['attested_by']}"
    return text + (f" {instant(consent['attested_at'])}" if consent.get("attested_at") else "")


def describe(
    finding: dict[str, Any],
    decision: dict[str, Any],
    grounds: dict[str, Any],
    denies: list[list[Any]],
    results: list[str],
) -> str:
    at = instant(decision["at"])
    reasons = [f"{outcome[1]} ({outcome[3]})" for outcome in denies]
    verdict = "allow" if decision["allow"] else "deny"
    if decision.get("shadow") and not decision["allow"]:
        verdict = "deny, but the gate was in shadow mode and the call was allowed to go on"
    called = finding["number"] or "a number whose keys are destroyed"
    sealed = decision.get("caller_sealed")
    caller = "an unassigned caller ID" if sealed else grounds["facts"]["caller_id"]["number"]
    receipts = [f"registry receipt {consultation['receipt']}" for consultation in finding["consultations"]]
    consents = [
        f"consent {consent['id']}: {consent['artefact']} {consent['artefact_sha256']}{other_proofs(consent)}{recorded(consent)}"
        for consent in finding["consents"]
    ]
    return "; ".join(
        [f"{finding['id']}  {at}  {verdict}  {caller} to {called}", *reasons, *receipts, *consents, *results]
    )


# ---- time stamps -----------------------------------------------------------------------------------------------------

DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "608648016503040201": hashes.SHA256(),
    "608648016503040202": hashes.SHA384(),
    "608648016503040203": hashes.SHA512(),
}
MESSAGE_DIGEST, TIME_STAMPING = "2a864886f70d010904", "1.3.6.1.5.5.7.3.8"
CERTIFICATES = 0xA0  # tag of the certificates in a SignedData


def der(data: bytes) -> list[tuple[int, bytes, bytes]]:
    """Return the tag, the content and the whole encoding for each DER value in `data`.

    Raises IndexError and ValueError.
    """
    values, at = [], 0
    while at < len(data):
        tag, length, begin = data[at], data[at + 1], at + 2
        if length & 128:
            begin += length & 127
            length = int.from_bytes(data[at + 2 : begin], "big")
        if begin + length > len(data):
            raise ValueError("a time stamp is truncated")
        values.append((tag, data[begin : begin + length], data[at : begin + length]))
        at = begin + length
    return values


def digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    hashing = hashes.Hash(algorithm)
    hashing.update(data)
    return hashing.finalize()


def is_signed_by(
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


def read_stamp(response: bytes, message: bytes) -> tuple[datetime, x509.Certificate, list[x509.Certificate]]:
    """Return the time of a stamp, its signer, and the included certificates.

    The format is defined in RFC 3161, 2.4.2, and RFC 5652, 5.1.
    """
    status, token = der(der(response)[0][1])[:2]
    require(der(status[1])[0][1] in {b"\0", b"\1"}, "a time stamp was refused by its authority")
    signed_data = der(der(der(token[1])[1][1])[0][1])
    content = der(der(signed_data[2][1])[1][1])[0][1]
    info = der(der(content)[0][1])
    algorithm, imprint = der(info[2][1])
    require(
        imprint[1] == digest(DIGESTS[object_id(algorithm)], message),
        "a time stamp belongs to another checkpoint",
    )
    included = [
        x509.load_der_x509_certificate(whole)
        for tag, inner, _ in signed_data
        if tag == CERTIFICATES
        for _, _, whole in der(inner)
    ]
    at = datetime.strptime(info[4][1].decode()[:14], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return at, stamp_signer(der(der(signed_data[-1][1])[0][1]), content, included), included


def stamp_signer(
    signer: list[tuple[int, bytes, bytes]], content: bytes, included: list[x509.Certificate]
) -> x509.Certificate:
    algorithm = DIGESTS[object_id(signer[2])]
    attributes = {object_id(value): der(der(value[1])[1][1])[0][1] for value in der(signer[3][1])}
    require(attributes.get(MESSAGE_DIGEST) == digest(algorithm, content), "a time stamp was changed")
    signed = b"\x31" + signer[3][2][1:]  # signed as a SET, but stored under another tag
    signers = [
        certificate
        for certificate in included
        if may_stamp(certificate) and is_signed_by(certificate, signed, signer[5][1], algorithm)
    ]
    require(signers, "the signature of a time stamp is not valid")
    return signers[0]


def object_id(value: tuple[int, bytes, bytes]) -> str:
    """Return the object identifier at the beginning of a sequence, in hex."""
    return der(value[1])[0][1].hex()


def may_stamp(certificate: x509.Certificate) -> bool:
    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return TIME_STAMPING in {usage.dotted_string for usage in uses}


def leads_to(
    certificate: x509.Certificate,
    included: list[x509.Certificate],
    roots: list[x509.Certificate],
    at: datetime,
) -> bool:
    """Return whether the certificate chains to one of the roots.

    Every certificate below the root must be valid at `at`.
    """
    for _ in range(8):
        if not certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc:
            return False
        if certificate in roots or any(is_issued_by(certificate, root) for root in roots):
            return True
        issuers = [
            issuer for issuer in included if issuer != certificate and is_issued_by(certificate, issuer)
        ]
        if not issuers:
            return False
        certificate = issuers[0]
    return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
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
        at, signer_, included = read_stamp(base64.b64decode(stamp["response"], validate=True), line)
        require(
            not roots or leads_to(signer_, included, roots, at),
            "a time stamp was not issued under any of the roots given with --root",
        )
        trust = "" if roots else "; NOT CHECKED: the authority (give its root certificate with --root)"
        name = signer_.subject.rfc4514_string()
        yield f"records up to {size} existed at {at:%Y-%m-%d %H:%M:%S} UTC: time stamp from {name}{trust}"


# ---- the whole bundle ------------------------------------------------------------------------------------------------


def verify(
    data: bytes, trusted: frozenset[str] = frozenset(), roots: list[x509.Certificate] | None = None
) -> list[str]:
    """Return one line for each fact that the bundle proves. Raises Refused."""
    try:
        evidence, names = read_body(data, trusted)
        signed = list(checkpoints(evidence))
        lines = list(decisions(evidence, dict(entries(evidence, signed))))
        ids = {finding["id"] for finding in evidence["decisions"]}
        for asked in evidence["asked"]:
            require(ids >= set(asked["decisions"]), "a decision about a number is missing")
            lines.append(f"{asked['number']}: {len(asked['decisions'])} decisions{within(evidence)}")
        lines += describe_files(evidence)
        stamps = list(time_stamps(evidence, signed, roots or []))
        hidden = configuration(evidence)
        without = len(signed) - len({stamp["checkpoint"] for stamp in evidence.get("stamps", ())})
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise EvidenceRefused(f"the bundle has the wrong structure: {error!r}") from None
    by = f"signed by {', '.join(names)}, log {evidence['log']}"
    if evidence["asked"]:
        lines.append("only the signer states that there are no other decisions about these numbers")
    more = f"; {without} of {len(signed)} checkpoints have no time stamp: only the signer states when they were made"
    return [*lines, *stamps, by + more * bool(without) + hidden]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--key", action="append", default=[], help="name of a trusted key")
    parser.add_argument(
        "--root", type=Path, help="PEM file with the root certificates of time stamping authorities"
    )
    parser.add_argument(
        "--files",
        type=Path,
        help="folder to write the files that prove consents to, named after their SHA-256",
    )
    arguments = parser.parse_args()
    try:
        roots = x509.load_pem_x509_certificates(arguments.root.read_bytes()) if arguments.root else []
        data, trusted = arguments.bundle.read_bytes(), frozenset(arguments.key)
        lines = verify(data, trusted, roots)
        if arguments.files:
            arguments.files.mkdir(exist_ok=True)
            for name, content in files(read_body(data, trusted)[0]).items():
                (arguments.files / name).write_bytes(content)
    except (EvidenceRefused, OSError, ValueError) as refused:
        sys.exit(f"REFUSED: {refused}")
    print(*lines, "The bundle is valid.", sep="\n")


if __name__ == "__main__":
    main()
