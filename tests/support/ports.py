"""Free ports for servers that cannot choose a port themselves."""

import random
import socket

_BELOW = 32_768  # the kernel may assign higher ports to clients before the server listens
_choice = random.SystemRandom()  # `random` yields the same values in every pytest-xdist worker
_given = set[int]()


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Return a port that is free for this kind and for TCP, which Kamailio opens too. No port is returned twice."""
    while True:
        port = _choice.randrange(10_000, _BELOW)
        if port not in _given and all(_is_free(host, port, each) for each in {kind, socket.SOCK_STREAM}):
            _given.add(port)
            return port


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
