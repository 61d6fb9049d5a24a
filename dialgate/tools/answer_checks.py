"""Checks of answers to `dialgate init`. Each returns what is wrong and what to enter instead, or ""."""

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path


def not_an_address(host: str) -> str:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return ""
    # A name of digits, such as a port, would be read as an address.
    if any(map(str.isalpha, host)):
        with suppress(OSError, UnicodeError):
            socket.getaddrinfo(host, None)
            return ""
    return (
        f"{host!r} is no IP address, and no name that this machine finds; write 127.0.0.1 for programs on this machine only,"
        " 0.0.0.0 for other machines too, or one address of this machine"
    )


def not_a_folder(text: str) -> str:
    is_file = Path(text).is_absolute() and any(path.is_file() for path in (Path(text), *Path(text).parents))
    return f"{text!r} is in or is a file; write the path of a folder" if is_file else ""
