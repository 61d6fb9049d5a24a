"""Warnings about a configuration: likely mistakes that are allowed."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from dialgate.config.configuration import Config
from dialgate.config.fields import Network

_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
# All that a dialer needs. `outcome` can report a wrong number, which voids consents.
_DIALER_SCOPES: Final = frozenset({"check"})


def warnings(config: Config) -> list[str]:
    return list(_proxied(config))


def _proxied(config: Config) -> Iterator[str]:
    """Warn of clients that are known by an address from which a reverse proxy may connect.

    A dialer on this host that may only check is not warned of: that is how deploy/README.md sets Asterisk up.
    """
    proxies = [*_LOOPBACK, *_listening(config), *config.proxies]
    for network, client in config.networks:
        beyond = not network.prefixlen or set(client.scopes) - _DIALER_SCOPES
        if client.scopes and beyond and any(network.overlaps(proxy) for proxy in proxies):
            scopes = ", ".join(client.scopes)
            yield (
                f"client {client.name}: source {network} covers this host or a trusted proxy. Anyone who comes through a"
                " reverse proxy there that adds no X-Forwarded-For or Forwarded header has the client's scopes"
                f" ({scopes}). Have the proxy add the header (then a key is needed) and name the proxy in"
                " listen.trusted_proxies, or give the client a key, or name only addresses of other hosts"
            )


def _listening(config: Config) -> Iterator[Network]:
    """The address that the gate listens at, if it is a single one: a proxy on this host connects from it."""
    with suppress(ValueError):  # a name
        address = ipaddress.ip_address(config.settings.listen.host)
        if not address.is_unspecified:
            yield ipaddress.ip_network(address)
