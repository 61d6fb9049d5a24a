"""Evidence about an authority's list of numbers as one zip file: bundles, verifier, a readable report and a cover letter.

The bundle cannot prove which number a record is about. So the letter states it, with the hash of each file, for the controller to sign.
"""

import hashlib
import io
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, structs

from dialgate.audit import evidence, explanation
from dialgate.audit.evidence_files import EvidenceOrder, make_evidence
from dialgate.audit.number_history import Inquiry
from dialgate.config.configuration import Config
from dialgate.core.model import Instant
from dialgate.crypto.keys import Keys
from dialgate.crypto.log_signing import key_name
from dialgate.subjects import letter
from dialgate.subjects.letter import AskedNumber, Letter

VERIFIER: Final = "verify_evidence.py"
_REPORT: Final = "report.html"


class EvidencePackageOrder(Struct, frozen=True, kw_only=True):
    """What to pack. `letter` is the cover letter without numbers and files, and `own` the operator's folder of templates."""

    evidence: EvidenceOrder
    letter: Letter
    own: Path


class _Signed(Struct):
    key: str


def make_package(config: Config, order: EvidencePackageOrder, now: Instant) -> tuple[bytes, set[str]]:
    """Return the zip file, and the called numbers in it. Blocks. Raises `Refused` and the same errors as `make_evidence`."""
    bundles, called = make_evidence(config, order.evidence, now)
    packed = {f"evidence{f'-{place}' * (place > 1)}.json": body for place, body in enumerate(bundles, 1)}
    packed[VERIFIER] = files("dialgate.tools.verifier").joinpath(VERIFIER).read_bytes()
    ids = set().union(*map(evidence.decisions_in, bundles))
    cover = structs.replace(order.letter, asked=_asked(config, order, ids), key=_key(bundles[0]))
    packed[_REPORT] = letter.render(cover, order.own, template=_REPORT).encode()
    hashes = tuple((name, hashlib.sha256(body).hexdigest()) for name, body in packed.items())
    cover = structs.replace(cover, files=hashes)
    packed["letter.html"] = letter.render(cover, order.own).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in packed.items():
            archive.writestr(name, body)
    return target.getvalue(), called


def _asked(config: Config, order: EvidencePackageOrder, ids: set[str]) -> tuple[AskedNumber, ...]:
    """Return each number with its decisions of the bundles, oldest first."""
    inquiry = Inquiry(config.data, Keys.open(config.data / "keys.json"), config.shipped)
    names = {owner.id: owner.name for owner in config.controllers.values()}
    found = {
        number: inquiry.find(number, lambda record: record.id in ids) for number in order.evidence.numbers
    }
    return tuple(
        AskedNumber(
            number=number,
            accounts=tuple(
                explanation.account(decision, order.letter.language, names) for decision in decisions[::-1]
            ),
        )
        for number, decisions in found.items()
    )


def _key(bundle: bytes) -> str:
    return key_name(bytes.fromhex(msgspec.json.decode(bundle, type=_Signed).key))
