"""Where several processes listen on one port: a socket for each (SO_REUSEPORT), held by their parent.

The kernel spreads connections over the sockets. Since the parent holds them too, what waits in a socket's queue outlives the
process that served it: its follower, which is given the same socket, finds it there, and no connection is refused.
"""

import socket
from errno import EADDRINUSE

from dialgate.config.configuration import ConfigError
from dialgate.config.listeners import Operations

_BACKLOG = 4096


def shared(door: str, host: str, port: int, count: int) -> list[list[socket.socket]]:
    """For each of `count` processes a socket on every address of `host`; on port 0 all are on one free port. Raises
    `ConfigError`, where `door` is the setting that is wrong."""
    refuse_if_taken(door, host, port, socket.SOCK_STREAM)
    doors: list[list[socket.socket]] = [[] for _ in range(count)]
    try:
        for family, address in _addresses(host, port, socket.SOCK_STREAM):
            for sockets in doors:
                one = _bound(family, (address[0], port, *address[2:]))
                port = port or one.getsockname()[1]
                sockets.append(one)
    except OSError as error:
        for socket_ in [socket_ for sockets in doors for socket_ in sockets]:
            socket_.close()
        raise _config_error(door, host, port, error) from error
    return doors


def refuse_if_taken(door: str, host: str, port: int, *kinds: socket.SocketKind) -> None:
    """Another gate's workers would share theirs with ours, and each would be asked about the other's calls. Raises `ConfigError`."""
    try:
        for kind in kinds:
            for family, address in _addresses(host, port, kind):
                _bind_alone(family, kind, address)
    except OSError as error:
        raise _config_error(door, host, port, error) from error


def _bind_alone(family: int, kind: socket.SocketKind, address: tuple[object, ...]) -> None:
    with socket.socket(family, kind) as alone:
        if kind == socket.SOCK_STREAM:  # else what is left of old connections would be in the way
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            alone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        alone.bind(address)


def _addresses(host: str, port: int, kind: socket.SocketKind) -> list[tuple[int, tuple[object, ...]]]:
    infos = socket.getaddrinfo(host or None, port, type=kind, flags=socket.AI_PASSIVE)
    return [(family, address) for family, _, _, _, address in infos]


def _config_error(door: str, host: str, port: int, error: OSError) -> ConfigError:
    if error.errno == EADDRINUSE:
        advice = "Stop the program that listens there, or choose another port"
    else:
        advice = "Set `host` to an address of this machine"
    return ConfigError([f"{door}: {host} port {port}: {error.strerror or error}. {advice}"])


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one


def operations_refused(error: ConfigError) -> str:
    """Return the warning of a gate without the setting `operations` that cannot use the default port."""
    why = "is in use by another program, perhaps another gate" if "in use" in str(error) else "cannot be used"
    return (
        f"port {Operations().port} of the operations listener {why}. This gate serves /metrics and /readyz on its own port only, with a key"
        " of the scope `metrics`. Set `operations.port` to a free port."
    )


def inherited(descriptors: tuple[int, ...]) -> list[socket.socket]:
    """Sockets that the parent has passed on."""
    return [socket.socket(fileno=descriptor) for descriptor in descriptors]
