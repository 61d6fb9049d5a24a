"""Protection against web pages of other sites, which can send requests from a browser on a machine that needs no key.

A browser names the page's site in `Sec-Fetch-Site` or `Origin`. A page can also point its own host name at the gate (DNS
rebinding), so that the browser regards both as one site. The name is then in `Host`.
"""

import ipaddress
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

from aiohttp import web

from dialgate.interfaces.http.errors import Fault


def refuse_web_pages(request: web.Request, hosts: Collection[str]) -> None:
    """Raise `Fault` if a web page of another site may have sent the request. `hosts` are names of this gate."""
    if is_foreign(request):
        raise Fault(
            403,
            "auth.web_page",
            "The request has no key and comes from a web page of another site. Send `Authorization: Bearer KEY`.",
        )
    if not _is_addressed(request, hosts):
        raise Fault(
            403,
            "auth.web_page",
            "The request has no key, and its `Host` is not a name of this gate. Use the gate's IP address, or add the name to "
            "the setting `hosts`.",
        )


def is_foreign(request: web.Request) -> bool:
    """Return whether another site sent the request. `Origin` is read for browsers without Fetch Metadata."""
    if site := request.headers.get("Sec-Fetch-Site"):
        return site not in {"same-origin", "none"}
    origin = request.headers.get("Origin")
    with suppress(ValueError):
        return origin is not None and urlsplit(origin).netloc != request.headers.get("Host", "")
    return True


def _is_addressed(request: web.Request, hosts: Collection[str]) -> bool:
    """Return whether `Host` is an IP address, `localhost` or one of `hosts`."""
    named = request.headers.get("Host")
    if named is None:  # HTTP/1.0, which no browser sends
        return True
    try:
        host = urlsplit(f"//{named}").hostname or ""
        if host != "localhost" and host not in hosts:
            ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
