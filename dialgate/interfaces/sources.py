"""Who asks, for those who cannot send a key: the client whose `sources` hold the address a question comes from."""

import ipaddress

from dialgate.settings import Client, Config


def client_at(remote: str, config: Config) -> Client | None:
    """`remote`: the peer's address as the socket tells it, also IPv4 within IPv6, also with a zone."""
    address = ipaddress.ip_address(remote.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return next((client for network, client in config.networks if address in network), None)
