"""Warnings about a configuration: likely mistakes that are allowed."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress

from dialgate.settings import Config, Network

_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def warnings(config: Config) -> list[str]:
    return list(_proxied(config))


def _proxied(config: Config) -> Iterator[str]:
    """A client known by this host's own address: so is everybody whom a reverse proxy on this host lets through."""
    own = [*_LOOPBACK, *_listening(config)]
    for network, client in config.networks:
        if any(network.overlaps(each) for each in own) and client.scopes:
            scopes = ", ".join(client.scopes)
            yield (
                f"client {client.name}: source {network} covers this host. Whoever comes through a reverse proxy on this"
                f" host that adds no X-Forwarded-For or Forwarded header has its scopes ({scopes}). Give the client a key, or"
                " name only the addresses of other hosts"
            )


def _listening(config: Config) -> Iterator[Network]:
    """The address that the gate listens at, if it is a single one: a proxy on this host connects from it."""
    with suppress(ValueError):  # a name
        address = ipaddress.ip_address(config.settings.listen.host)
        if not address.is_unspecified:
            yield ipaddress.ip_network(address)
