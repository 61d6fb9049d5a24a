"""Warnings about likely mistakes in a valid configuration."""

import ipaddress
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from dialgate.config.configuration import Config
from dialgate.config.fields import Network
from dialgate.runtime.extras import is_installed

_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
# The scopes that a dialer needs. `outcome` is not harmless: a report of a wrong number ends the effect of consents.
_DIALER_SCOPES: Final = frozenset({"check"})


def warnings(config: Config) -> list[str]:
    return [*_proxied_clients(config), *_unpacked_log(), *_unshipped_logs(config)]


def _proxied_clients(config: Config) -> Iterator[str]:
    """Yield a warning for each client with a source address from which a reverse proxy might connect.

    A client with only the scope `check` gets no warning, because deploy/README.md sets up Asterisk as such a client.
    The exception is a source that covers all addresses (prefix length 0).
    """
    proxies = [*_LOOPBACK, *_listening_network(config), *config.proxies]
    for network, client in config.networks:
        beyond = not network.prefixlen or set(client.scopes) - _DIALER_SCOPES
        if client.scopes and beyond and any(network.overlaps(proxy) for proxy in proxies):
            scopes = ", ".join(client.scopes)
            yield (
                f"client {client.name}: source {network} covers this host or a trusted proxy. If a reverse proxy"
                " there adds no X-Forwarded-For or Forwarded header, all its requests get the client's scopes"
                f" ({scopes}). Configure the proxy to add the header, and list the proxy in listen.trusted_proxies"
                " (its requests then need a key). Or give the client a key, or use only addresses of other hosts"
            )


def _unpacked_log() -> Iterator[str]:
    if not is_installed("archive"):
        yield (
            "the decision log stays unpacked, which takes three times the space. Run `pip install"
            " 'dialgate[archive]'`"
        )


def _unshipped_logs(config: Config) -> Iterator[str]:
    if config.settings.peers and config.shipped is None:
        yield (
            "shipping: several gates share the `store`, but none can read the decisions of another, and those of a lost"
            " disk are lost. Set `to` in `shipping`, the same on every node, and run `dialgate ship` on each"
        )


def _listening_network(config: Config) -> Iterator[Network]:
    """Yield the gate's listening address, unless it is a wildcard or a host name.

    If a proxy on the same host connects to this address, its connections have the same source address.
    """
    with suppress(ValueError):  # a host name
        address = ipaddress.ip_address(config.settings.listen.host)
        if not address.is_unspecified:
            yield ipaddress.ip_network(address)
