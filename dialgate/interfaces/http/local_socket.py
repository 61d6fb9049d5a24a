"""The gate's Unix socket in the data folder, for commands and jobs on the same machine.

Whoever may open the socket could also read and write the data folder. So the socket needs no key and grants every scope.
"""

import asyncio
import pwd
import socket
import struct
from pathlib import Path
from typing import Final

from dialgate.config.clients import LOCAL, Client
from dialgate.config.configuration import Config
from dialgate.runtime.gate_address import short_path

_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group of the other end


def bind(data: Path) -> socket.socket:
    """Return a socket that is bound in the data folder, for its owner only. Raises `OSError`.

    A socket that an earlier gate left there is replaced: two gates never share a data folder.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(data) as path:
            path.unlink(missing_ok=True)
            sock.bind(str(path))
            path.chmod(0o600)  # nobody can connect before, because the socket does not listen yet
    except OSError:
        sock.close()
        raise
    return sock


def local_client(transport: asyncio.BaseTransport | None, config: Config) -> Client | None:
    """Return the client at the other end of the socket, or None for a connection over the network.

    Its name is `cli:USER`, from the credentials that the kernel reports.
    """
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    _, user, _ = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    return config.operator(f"{LOCAL}{_name_of(user)}")


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # in a container, for example
        return f"uid-{user}"
