"""Messages to the service manager that started this process, in the protocol of sd_notify(3)."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

_BEATS: Final = 3  # heartbeats in the time after which systemd ends a silent service


class NotifySocket(Struct, frozen=True):
    """The service manager's datagram socket. `address` is "" if this process is not a service.

    `beat_seconds` is the interval of the heartbeats that the service manager expects, or 0 if it expects none.
    """

    address: str
    beat_seconds: float

    @classmethod
    def of_process(cls, environment: Mapping[str, str] = os.environ) -> "NotifySocket":
        address = environment.get("NOTIFY_SOCKET", "")
        is_watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "0") if is_watched else "0"
        return cls(address.replace("@", "\0", 1), int(microseconds) / 1e6 / _BEATS)

    def notify(self, *lines: str) -> None:
        """Send `lines`. A message that the socket does not accept at once is lost, so that no call waits for it."""
        if not self.address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, suppress(OSError):
            sock.sendmsg(["\n".join(lines).encode()], [], socket.MSG_DONTWAIT, self.address)
