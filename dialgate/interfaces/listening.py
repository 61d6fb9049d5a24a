"""Listening sockets for the HTTP, FastAGI and operations listeners."""

import socket
from errno import EADDRINUSE

from dialgate.config.configuration import ConfigError
from dialgate.config.listeners import FastAgi, Listen, Operations

_BACKLOG = 4096


def listen(setting: str, where: Listen | FastAgi | Operations) -> list[socket.socket]:
    """Return a listening socket for every address of the host. If the port is 0, all use one free port.

    With `reuse_port`, several gates of one user share the port, and the kernel distributes new connections over them.
    Raises `ConfigError`; the message begins with `setting`.
    """
    reuse_port = not isinstance(where, Operations) and where.reuse_port
    port, sockets = where.port, list[socket.socket]()
    try:
        for family, _, _, _, address in socket.getaddrinfo(
            where.host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            # Otherwise old connections in TIME_WAIT would block the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((address[0], port, *address[2:]))
            port = port or sock.getsockname()[1]
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _config_error(setting, where.host, port, error) from error
    return sockets


def _config_error(setting: str, host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == EADDRINUSE:
        advice = "Stop the program that listens there, or choose another port"
    else:
        advice = "Set `host` to an address of this machine"
    return ConfigError([f"{setting}: {host} port {port}: {error.strerror or error}. {advice}"])


def operations_refused(error: ConfigError) -> str:
    """Return the warning that the operations listener could not open its default port.

    The default port is used if the setting `operations` is absent.
    """
    why = "is in use by another program, perhaps another gate" if "in use" in str(error) else "cannot be used"
    return (
        f"port {Operations().port} of the operations listener {why}. This gate serves /metrics and /readyz on its own port only, with a key"
        " of the scope `metrics`. Set `operations.port` to a free port."
    )
