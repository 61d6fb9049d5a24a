"""Limits on failed sign-ins, in the memory of a gate.

Failures count against an account only together with an address, and a browser that signed in before has a count of its own. So
nobody can lock a person out by guessing, unless both use the same address and the person has a new browser.
"""

import ipaddress
from collections import deque
from collections.abc import Callable
from typing import Final

from dialgate.core.model import MINUTE, SECOND, Instant
from dialgate.core.refusal import Refused

OF_ACCOUNT: Final = 10  # from one address, or from one known browser
OF_ADDRESS: Final = 50
SPAN: Final = 10 * MINUTE
_MOST_COUNTS: Final = 10_000
_NETWORK: Final = 64  # bits: a household or company gets an IPv6 network of this size or a larger one


class TooManySignIns(Refused):
    """Too many failed sign-ins. `after` is the number of seconds to wait."""

    def __init__(self, after: int) -> None:
        text = (
            f"Too many failed sign-ins. Wait {after} seconds, or use a browser in which you signed in before."
        )
        super().__init__("console.throttled", text, status=429)
        self.after = after


class SignInLimits:
    def __init__(self, clock: Callable[[], Instant]) -> None:
        self._clock = clock
        self._failures: dict[tuple[str, ...], deque[Instant]] = {}  # the latest last

    def begin(self, account: str, address: str, device: str) -> None:
        """Count an attempt as failed, before it is checked: attempts at the same time count, too.

        `device` identifies a known browser, or is empty. Raises `TooManySignIns`.
        """
        now, counts = self._clock(), self._counts(account, address, device)
        for key, most in counts:
            times = self._failures.get(key)
            if times is not None and len(times) >= most and now - times[0] < SPAN:
                raise TooManySignIns(int(max(1, (times[0] + SPAN - now) // SECOND)))
        for key, most in counts:
            times = self._failures.pop(key, None) or deque(maxlen=most)
            times.append(now)
            self._failures[key] = times
        while len(self._failures) > _MOST_COUNTS:
            del self._failures[next(iter(self._failures))]

    def succeed(self, account: str, address: str, device: str) -> None:
        """Forget the failures of this person here, and this attempt of the address."""
        own, *shared = self._counts(account, address, device)
        self._failures.pop(own[0], None)
        for key, _ in shared:
            if times := self._failures.get(key):
                times.pop()

    @staticmethod
    def _counts(account: str, address: str, device: str) -> list[tuple[tuple[str, ...], int]]:
        if device:
            return [(("device", device), OF_ACCOUNT)]
        network = _network(address)
        return [(("account", account, network), OF_ACCOUNT), (("address", network), OF_ADDRESS)]


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4 or parsed.ipv4_mapped:  # noqa: PLR2004
        return str(parsed)
    return str(ipaddress.ip_network((parsed, _NETWORK), strict=False))
