"""Nightly queries for a CRM's changed records (`pull` of an incoming webhook), which bring what its messages lost."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from dialgate.config.fields import Strict
from dialgate.config.webhook_targets import is_confidential

PLACEHOLDER: Final = re.compile(r"\{(since|since_ms|next|secret)\}")
_Path = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")]
_OptionalPath = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)?$")]


class RecordPull(Strict, frozen=True, kw_only=True):
    """The query for changed records, and how a record becomes a message of the webhook.

    `url`, `headers` and `body` may contain `{since}`, `{since_ms}` (milliseconds since 1970) and `{next}`; `headers` and `body` also `{secret}`.
    """

    url: str
    """The query: `https://…`, or `file:///…` for a file that the CRM writes on this machine."""
    method: Literal["GET", "POST"] = "GET"
    """Method of the request."""
    headers: Mapping[str, str] = {}
    """Headers of the request, for example `{Authorization: "Bearer {secret}"}`."""
    body: str = ""
    """Body of the request."""
    secret_file: str = ""
    """File with the key that `{secret}` stands for. Only `dialgate webhook pull` reads it."""
    login: str = ""
    """OAuth 2.0 token endpoint. The content of `secret_file` is posted to it as a form, and `{secret}` stands for the `access_token` in its answer."""
    since: str = "%Y-%m-%dT%H:%M:%SZ"
    """Format of `{since}` (strftime), a time in UTC."""
    format: Literal["json", "csv"] = "json"
    """Format of the answer. CSV has a header, is encoded in UTF-8 and separated by commas, semicolons, tabs or `|`."""
    records: _OptionalPath = ""
    """Path of the list of records in a JSON answer. Empty if the answer is the list."""
    paging: Literal["once", "keyset", "link", "token"] = "once"
    """`once`: one answer has all records. `keyset`: the query asks for records with a key above `{next}`, in the order of the key, until there are none. `link`: the answer has the URL of the next page. `token`: the answer has a value for the URL of the next page."""
    next: _OptionalPath = ""
    """For `keyset` the path of the key in a record, otherwise that of the URL or value in the answer."""
    parameter: str = ""
    """For `token`: the parameter of the URL that takes the value."""
    event: Mapping[_Path, _Path]
    """The message of a record: of each path in the webhook's message or event, the path in the record."""


def faults(pull: RecordPull | None) -> Iterator[str]:
    """Yield a message for each problem with a query."""
    if pull is None:
        return
    scheme, host = urlsplit(pull.url)[:2]
    sent = [pull.url, pull.body, *pull.headers.values()]
    holes = {hole for text in sent for hole in PLACEHOLDER.findall(text)}
    is_file = scheme == "file"
    checks = (
        (bool(host) if is_file else not (host and is_confidential(pull.url)),
         "url: write https://HOST/PATH, or file:///PATH"),
        ("@" in host, "url: leave out the user; use `headers` and `secret_file`"),
        ("secret" in PLACEHOLDER.findall(pull.url), "url: a key in a URL is logged by every proxy; use `headers`"),
        (bool(pull.login) and not is_confidential(pull.login), "login: write https://HOST/PATH"),
        (("secret" in holes or bool(pull.login)) and not pull.secret_file, "secret_file: is missing"),
        (pull.paging != "once" and not pull.next, "next: is missing"),
        (pull.paging == "once" and "next" in holes, "paging: {next} needs `keyset`"),
        (pull.paging == "keyset" and "next" not in holes, "paging: `keyset` needs {next} in `url` or `body`"),
        ((pull.paging == "token") != bool(pull.parameter), "parameter: is for `token`, which needs it"),
        ((pull.format == "csv" or is_file) and pull.paging != "once", "paging: a file has one page"),
        (not pull.event, "event: is empty; give the places of the values"),
        (any(inner.startswith(f"{outer}.") for outer in pull.event for inner in pull.event),
         "event: a place cannot have a value and other places in it"),
    )  # fmt: skip
    yield from (text for is_wrong, text in checks if is_wrong)
