"""The conformance kit, run by tests."""

import asyncio

from dialgate.tools.conformance import kit
from dialgate.tools.conformance.dialers import Dialer
from dialgate.tools.conformance.kit import CaseFinding, ConformanceCase, cases_for


async def failed_cases(dialer: Dialer, among: set[str] | None = None) -> set[str]:
    """Run all cases or those in `among`, each with its own gate, and return the ones that failed."""
    cases = [case for case in cases_for(dialer) if among is None or case.name in among]
    return {
        found.case
        for found in await asyncio.gather(*(finding(dialer, case) for case in cases))
        if not found.ok
    }


async def finding(dialer: Dialer, case: ConformanceCase) -> CaseFinding:
    """Run one case. If the gate permits the call, try up to three times: a busy machine can cause a timeout."""
    for _ in range(3 if case.through else 1):
        (found,) = [item async for item in kit.run(dialer, cases=[case])]
        if found.ok:
            break
    return found
