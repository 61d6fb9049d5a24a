"""A record of the alerts that Prometheus or promtool reported as firing during each test."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")

REPORTED: set[str] = set()  # since the start of the current test
DECLARED: set[str] = set()
PENDING_CHECKS: list[Callable[[], Awaitable[None]]] = []  # checks to await when the current test ends


def fires(*names: str) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Declare the alerts that must fire during a test. The test fails unless all of them are reported as firing."""
    DECLARED.update(names)

    def declare(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @wraps(test)
        async def run_and_check(*args: P.args, **kwargs: P.kwargs) -> None:
            REPORTED.clear()
            try:
                await test(*args, **kwargs)
                for check in PENDING_CHECKS:
                    await check()
            finally:
                PENDING_CHECKS.clear()
            assert set(names) <= REPORTED, f"not reported as firing: {sorted(set(names) - REPORTED)}"

        return run_and_check

    return declare
