"""Ports for servers that cannot be told to take any."""

import random
import socket

_BELOW = 32_768  # from here on the kernel gives them to whoever calls, and might before the server has begun to listen
_choice = random.SystemRandom()  # workers that share the tests all draw the same from `random`
_given = set[int]()


def free_port(host: str = "127.0.0.1", kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """Each is given once."""
    while True:
        port = _choice.randrange(10_000, _BELOW)
        if port not in _given and _is_free(host, port, kind):
            _given.add(port)
            return port


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
