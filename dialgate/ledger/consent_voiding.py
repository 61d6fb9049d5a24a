"""The request that voids consents when a number is enrolled in the opposition registry.

Enrolment voids every consent collected before it, by any controller and in any form (L. 5/2018 art. 1 c. 5;
D.P.R. 26/2022 art. 7 c. 6 and 7). Contracts are not affected.

The rules treat the consents as void as soon as the registry's answer is published. The ledger entry keeps the
consents void after the answer has expired. It contains the receipt of the registry consultation as proof.
"""

from typing import Annotated

from msgspec import Meta, Struct

from dialgate.ledger.schemas import Name, Request, Telephone, When, described


class EnrolmentRequest(Request, frozen=True, kw_only=True):
    """Numbers that a registry reported as enrolled. Every consent that was collected up to then is void."""

    registry: Annotated[Name, described("The registry, such as `rpo`.")]
    numbers: Annotated[
        tuple[Annotated[Telephone, Meta(pattern=r"^\+[0-9]{5,15}$")], ...],
        Meta(max_length=1_000, description="The enrolled numbers in E.164, at most 1,000."),
    ]
    listed_by: Annotated[When, described("When the numbers were enrolled at the latest.")]


class VoidedConsents(Struct, frozen=True):
    """How many of the numbers had a consent that is void now."""

    voided: int
