"""CRMs that page through changed contacts as their published references describe.

- HubSpot: https://developers.hubspot.com/docs/api-reference/search/guide
- Salesforce: https://developer.salesforce.com/docs/platform/api-rest/guide/dome-query.html
- Odoo: https://www.odoo.com/documentation/19.0/developer/reference/external_api.html
- Zoho: https://www.zoho.com/crm/developer/docs/api/v7/get-records.html
"""

import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from dialgate.core.model import SECOND
from dialgate.runtime.clock import wall_clock

PAGE = 2
KEY = "a-key-of-the-crm"
FORM = "grant_type=client_credentials&client_id=id&client_secret=secret"
NAMES = (
    "phone", "do_not_call", "call_consent", "call_consent_at", "consent_file", "consent_sha256",
    "consent_attested_by", "consent_attested_at")  # fmt: skip
UNSET = dict.fromkeys(NAMES)


class Crm:
    """Contacts by id, each with the time of its last change. `answers` are returned before the real ones."""

    name = ""

    def __init__(self) -> None:
        self.contacts: dict[int, dict[str, Any]] = {}
        self.asked: list[web.Request] = []
        self.since: list[int] = []
        self.answers: list[web.Response] = []
        self.key = KEY

    def change(self, contact: int, **values: Any) -> None:
        self.contacts[contact] = UNSET | self.contacts.get(contact, {}) | values | {"changed": wall_clock()}

    def changed(self, since: datetime, after: int = 0) -> list[tuple[int, dict[str, Any]]]:
        at = round(since.timestamp() * SECOND)
        self.since.append(at)
        found = self.contacts.items()
        return sorted(item for item in found if item[1]["changed"] >= at and item[0] > after)

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        if self.answers:
            return self.answers.pop(0)
        if request.path.endswith("/token"):
            form = await request.text()
            return web.json_response(
                {"access_token": self.key} if form == FORM else {"error": "invalid_client"}
            )
        if request.headers["Authorization"].split()[1] != self.key:
            return web.json_response(
                {"message": f"Invalid key {request.headers['Authorization']}"}, status=401
            )
        return await self.page(request)

    async def page(self, request: web.Request) -> web.Response:
        raise NotImplementedError


def iso(at: int, form: str = "%Y-%m-%dT%H:%M:%S.%f") -> str:
    return datetime.fromtimestamp(at / SECOND, UTC).strftime(form)[: 23 if "%f" in form else None]


class HubSpot(Crm):
    name = "hubspot"

    async def page(self, request: web.Request) -> web.Response:
        ask = await request.json()
        assert (request.method, request.path) == ("POST", "/crm/v3/objects/contacts/search")
        (group,) = ask["filterGroups"]
        filters = {item["propertyName"]: (item["operator"], item.get("value")) for item in group["filters"]}
        assert filters.pop("phone") == ("HAS_PROPERTY", None)
        (since_operator, since), (key_operator, after) = (
            filters["lastmodifieddate"], filters["hs_object_id"],
        )  # fmt: skip
        assert (since_operator, key_operator) == ("GTE", "GT")
        assert ask["sorts"] == [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
        found = self.changed(datetime.fromtimestamp(int(since) / SECOND, UTC), int(after))
        results = []
        for contact, values in found[: min(ask["limit"], PAGE)]:
            known = {**values, "lastmodifieddate": iso(values["changed"]) + "Z"}
            properties = {
                name: str(known[name]).lower() if isinstance(known[name], bool) else known[name]
                for name in ask["properties"]
            }
            results.append({"id": str(contact), "properties": {**properties, "hs_object_id": str(contact)}, "archived": False})  # fmt: skip
        paging = {"paging": {"next": {"after": str(PAGE)}}} if len(found) > PAGE else {}
        return web.json_response({"total": len(found), "results": results, **paging})


class Salesforce(Crm):
    name = "salesforce"
    columns: Mapping[str, str] = {
        "phone": "Phone", "do_not_call": "DoNotCall", "call_consent": "Call_Consent__c",
        "call_consent_at": "Call_Consent_At__c", "consent_file": "Consent_File__c", "consent_sha256": "Consent_SHA256__c",
        "consent_attested_by": "Consent_Attested_By__c", "consent_attested_at": "Consent_Attested_At__c",
    }  # fmt: skip

    async def page(self, request: web.Request) -> web.Response:
        prefix = "/services/data/v62.0/query"
        if request.path == prefix:
            query = re.fullmatch(
                r"SELECT ([\w,]+) FROM Contact WHERE Phone != null AND SystemModstamp >= (\S+)",
                request.query["q"],
            )
            assert query, request.query["q"]
            self.fields, self.found, first = (
                query[1].split(","),
                self.changed(datetime.fromisoformat(query[2])),
                0,
            )
        else:
            first = int(request.path.removeprefix(f"{prefix}/01gD0000002HU6KIAW-"))
        records = []
        for contact, values in self.found[first : first + PAGE]:
            known = {column: values[name] for name, column in self.columns.items()}
            known |= {"Id": f"{contact:018}", "SystemModstamp": iso(values["changed"]) + "+0000"}
            known |= {name: bool(known[name]) for name in ("DoNotCall", "Call_Consent__c")}
            records.append(
                {"attributes": {"type": "Contact"}, **{field: known[field] for field in self.fields}}
            )
        left = first + PAGE < len(self.found)
        more = {"nextRecordsUrl": f"{prefix}/01gD0000002HU6KIAW-{first + PAGE}"} if left else {}
        return web.json_response({"totalSize": len(self.found), "done": not left, **more, "records": records})


class Odoo(Crm):
    name = "odoo"

    async def page(self, request: web.Request) -> web.Response:
        assert (request.method, request.path) == ("POST", "/json/2/res.partner/search_read")
        return web.json_response(self.search(await request.json()))

    def search(self, ask: dict[str, Any]) -> list[dict[str, Any]]:
        (_, _, since), (_, _, after), phone, active = ask["domain"]
        assert [item[:2] for item in ask["domain"]] == [
            ["write_date", ">="], ["id", ">"], ["phone", "!="], ["active", "in"],
        ]  # fmt: skip
        assert (phone[2], active[2], ask["order"]) == (False, [True, False], "id")
        found = self.changed(datetime.fromisoformat(since).replace(tzinfo=UTC), after)
        rows = []
        for contact, values in found[: min(ask["limit"], PAGE)]:
            known: dict[str, Any] = {
                name if name == "phone" else f"x_{name}": values[name] or False for name in NAMES
            }
            known["write_date"] = iso(values["changed"], "%Y-%m-%d %H:%M:%S")
            if known["x_call_consent_at"]:
                known["x_call_consent_at"] = known["x_call_consent_at"].replace("T", " ").removesuffix("Z")
            rows.append({"id": contact, **{field: known[field] for field in ask["fields"]}})
        return rows


class OldOdoo(Odoo):
    """Odoo 17 and 18, with JSON-RPC. The key is in the body."""

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        ask = await request.json()
        assert (request.path, ask["params"]["service"], ask["params"]["method"]) == (
            "/jsonrpc",
            "object",
            "execute_kw",
        )
        _, _, key, model, method, (domain,), more = ask["params"]["args"]
        assert (model, method) == ("res.partner", "search_read")
        if key != self.key:
            return web.json_response({"jsonrpc": "2.0", "id": None, "error": {"message": "Access Denied"}})
        return web.json_response(
            {"jsonrpc": "2.0", "id": None, "result": self.search({"domain": domain, **more})}
        )


class Zoho(Crm):
    name = "zoho"
    columns: Mapping[str, str] = {
        "phone": "Phone", "do_not_call": "Do_Not_Call", "call_consent": "Call_Consent", "call_consent_at": "Call_Consent_At",
        "consent_file": "Consent_File", "consent_sha256": "Consent_SHA256", "consent_attested_by": "Consent_Attested_By",
        "consent_attested_at": "Consent_Attested_At",
    }  # fmt: skip

    async def page(self, request: web.Request) -> web.Response:
        assert (request.method, request.path) == ("GET", "/crm/v7/Contacts")
        found = self.changed(datetime.fromisoformat(request.headers["If-Modified-Since"]))
        if not found:
            return web.Response(status=304)
        first = int(request.query.get("page_token", "0").removeprefix("token "))
        data = []
        for contact, values in found[first : first + PAGE]:
            known = {column: values[name] for name, column in self.columns.items()}
            known["Modified_Time"] = iso(values["changed"], "%Y-%m-%dT%H:%M:%S+00:00")
            data.append(
                {"id": str(contact), **{name: known[name] for name in request.query["fields"].split(",")}}
            )
        left = first + PAGE < len(found)
        info = {"per_page": PAGE, "count": len(data), "more_records": left, "next_page_token": f"token {first + PAGE}" if left else None}  # fmt: skip
        return web.json_response({"data": data, "info": info})


SERVERS: Mapping[str, type[Crm]] = {kind.name: kind for kind in (HubSpot, Salesforce, Odoo, Zoho)}


@asynccontextmanager
async def serving(crm: Crm, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a CRM, and yield its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", crm.serve)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield str(server.make_url("/")).rstrip("/")
    finally:
        await server.close()


def point(file: Path, address: str, **changes: Any) -> None:
    """Let the query of a copied webhook go to another address, with its key."""
    data = yaml.safe_load(file.read_text())
    pull = data["pull"] | changes
    for name in ("url", "login"):
        if name in pull and not pull[name].startswith("file:"):
            pull[name] = re.sub(r"^https://[^/]+", address, pull[name])
    (file.parent.parent / pull["secret_file"]).write_text((FORM if "login" in pull else KEY) + "\n")
    file.write_text(yaml.safe_dump(data | {"pull": pull}))
