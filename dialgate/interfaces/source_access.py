"""Identification by source address, for clients that cannot send a key. The addresses are in the setting `sources`."""

import ipaddress

from dialgate.config.clients import Client
from dialgate.config.configuration import Config


def client_at(remote: str, config: Config) -> Client | None:
    """Return the client whose source address is `remote`. The address may be IPv4-mapped or contain a zone."""
    address = _address(remote)
    return next((client for network, client in config.networks if address in network), None)


def behind_proxies(remote: str, forwarded: str, config: Config) -> str:
    """Return the address of the client behind the trusted proxies.

    `forwarded` is the value of X-Forwarded-For, to which each proxy appends its peer's address. Addresses appended by
    untrusted proxies are ignored, because they may be forged.
    """
    hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
    address = remote
    while hops and _is_trusted(address, config):
        address = hops.pop()
    return address


def _is_trusted(hop: str, config: Config) -> bool:
    try:
        address = _address(hop)
    except ValueError:
        return False
    return any(address in network for network in config.proxies)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
