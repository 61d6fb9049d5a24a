"""Requests of the job to the gate, which alone writes the ledger.

The gate is that of the data folder, over its socket. A job on another machine names a gate in the environment: DIALGATE_URL
and DIALGATE_KEY.
"""

import http.client
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from dialgate.core.faults import Unavailable
from dialgate.core.local_time import rfc3339
from dialgate.core.model import Instant
from dialgate.ledger.consent_voiding import VoidedConsents
from dialgate.runtime.gate_address import GateAddress

_SECONDS: Final = 60.0
_CREATED: Final = 201
_AT_ONCE: Final = 1_000  # numbers in one request
_MOST_SHOWN: Final = 500  # characters of a response that is quoted


class GateRefused(Unavailable):
    """The gate cannot be reached, or did not accept a request."""


class BatchRefused(GateRefused):
    """The gate did not accept a request. It may accept others."""


class Enrolment(Struct, frozen=True, kw_only=True):
    """Numbers (E.164 digits) that a consultation reported as enrolled at `listed_by` at the latest."""

    controller: str
    registry: str
    listed_by: Instant
    receipt: str
    numbers: Sequence[int]


def gate_address(data: Path) -> GateAddress:
    return GateAddress(data, os.environ.get("DIALGATE_URL", ""), os.environ.get("DIALGATE_KEY", ""))


def void_consents(address: GateAddress, enrolment: Enrolment) -> int:
    """Void the consents of enrolled numbers in the ledger, and return how many numbers had consents.

    Repetitions change nothing. Raises `GateRefused`; if the gate did not accept a batch, after all batches.
    """
    voided, refused = 0, None
    for body in _bodies(enrolment):
        try:
            response = _post(address, "/v1/consents/void", body)
            voided += msgspec.json.decode(response, type=VoidedConsents).voided
        except BatchRefused as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return voided


def _bodies(enrolment: Enrolment) -> Iterator[dict[str, Any]]:
    for start in range(0, len(enrolment.numbers), _AT_ONCE):
        yield {
            "controller": enrolment.controller,
            "registry": enrolment.registry,
            "listed_by": rfc3339(enrolment.listed_by),
            "numbers": [f"+{number}" for number in enrolment.numbers[start : start + _AT_ONCE]],
            "proof": enrolment.receipt,
            "channel": "registry",
            "actor": "registry-sync",
        }


def _post(address: GateAddress, path: str, body: dict[str, Any]) -> bytes:
    headers = {"Content-Type": "application/json", **address.headers}
    try:
        connection = address.connection(_SECONDS)
        try:
            connection.request("POST", path, msgspec.json.encode(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise GateRefused(
            f"the gate of {address.url or address.data} cannot be reached, so consents of newly enrolled numbers are not void in"
            f" the ledger: {error}. Start it; the next run repeats this step. Until then the answers, which are published,"
            " deny the calls"
        ) from error
    if response.status != _CREATED:
        raise BatchRefused(
            f"the gate answered {response.status}: {content.decode('utf-8', 'replace')[:_MOST_SHOWN]}"
        )
    return content
