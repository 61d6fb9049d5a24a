"""Listening sockets for several processes on one port (SO_REUSEPORT), one socket per process.

The kernel distributes connections over the sockets. The parent keeps all sockets open, so connections that are queued
in a socket survive the end of a worker. The new worker inherits the socket and accepts the queued connections, so no
connection is refused.
"""

import socket
from errno import EADDRINUSE

from dialgate.config.configuration import ConfigError
from dialgate.config.listeners import Operations

_BACKLOG = 4096


def shared(setting: str, host: str, port: int, count: int) -> list[list[socket.socket]]:
    """Return a list of listening sockets for each of `count` processes.

    Each list holds one socket for every address of `host`. If `port` is 0, all sockets share one free port.
    Raises `ConfigError`; the message begins with `setting`.
    """
    _refuse_if_taken(setting, host, port)
    by_process: list[list[socket.socket]] = [[] for _ in range(count)]
    try:
        for family, address in _addresses(host, port):
            for sockets in by_process:
                sock = _bound(family, (address[0], port, *address[2:]))
                port = port or sock.getsockname()[1]
                sockets.append(sock)
    except OSError as error:
        for socket_ in [socket_ for sockets in by_process for socket_ in sockets]:
            socket_.close()
        raise _config_error(setting, host, port, error) from error
    return by_process


def _refuse_if_taken(setting: str, host: str, port: int) -> None:
    """Raise `ConfigError` if another process listens on the port.

    With SO_REUSEPORT, the workers of two gates would otherwise share the port and receive each other's checks.
    """
    try:
        for family, address in _addresses(host, port):
            _bind_alone(family, address)
    except OSError as error:
        raise _config_error(setting, host, port, error) from error


def _bind_alone(family: int, address: tuple[object, ...]) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as alone:
        # Otherwise old connections in TIME_WAIT would block the port.
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        alone.bind(address)


def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, address) for family, _, _, _, address in infos]


def _config_error(setting: str, host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == EADDRINUSE:
        advice = "Stop the program that listens there, or choose another port"
    else:
        advice = "Set `host` to an address of this machine"
    return ConfigError([f"{setting}: {host} port {port}: {error.strerror or error}. {advice}"])


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def operations_refused(error: ConfigError) -> str:
    """Return the warning that the operations listener could not open its default port.

    The default port is used if the setting `operations` is absent.
    """
    why = "is in use by another program, perhaps another gate" if "in use" in str(error) else "cannot be used"
    return (
        f"port {Operations().port} of the operations listener {why}. This gate serves /metrics and /readyz on its own port only, with a key"
        " of the scope `metrics`. Set `operations.port` to a free port."
    )


def inherited(descriptors: tuple[int, ...]) -> list[socket.socket]:
    """Return the sockets that the parent passed on."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
