"""For the supervisor: a day or a month of a controller's calls, as a file to take along."""

import asyncio
import sys
from datetime import date, timedelta
from typing import Any, Final

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.core.name_suggestions import choose
from dialgate.interfaces.console.page_request import PREVIEWING, Visit
from dialgate.interfaces.http.errors import Fault

FORMS: Final = {"pdf": "application/pdf", "html": "text/html", "csv": "text/csv"}


async def ask(visit: Visit) -> web.StreamResponse:
    return _page(visit, {})


async def made(visit: Visit) -> web.StreamResponse:
    """By the command, in a process of its own and of low priority: the log of a month takes a while to read."""
    asked = await visit.form()
    try:
        owner, form = _controller(visit, asked), _form(asked)
        period = _period(asked)
    except Fault as fault:
        return _page(visit, asked, fault.status, error=fault.problem.code)
    words = ("--controller", owner, *period, "--format", form, "--language", visit.words.language)
    async with visit.request.app[PREVIEWING].of(visit.client.name):
        body = await _reported(str(visit.app.config.path), words)
    if body is None:
        return _page(visit, asked, 503, error="gate.unavailable")
    name = f'attachment; filename="dialgate-{owner}-{period[1]}.{form}"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, headers={**headers, "Content-Type": f"{FORMS[form]}; charset=utf-8"})


async def _reported(config: str, words: tuple[str, ...]) -> bytes | None:
    program = ("nice", "-n", "10", sys.executable, "-m", "dialgate", "report", "--config", config)
    process = await asyncio.create_subprocess_exec(
        *program, *words, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        told, _ = await process.communicate()
    except asyncio.CancelledError:  # whoever asked has gone
        process.kill()
        raise
    return None if process.returncode else told


def _controller(visit: Visit, asked: dict[str, str]) -> str:
    known = visit.client.controllers
    name = asked.get("controller", "") or (known[0] if len(known) == 1 else "")
    if name not in known:
        raise Fault(
            404, "controller.unknown", choose("Name one of your controllers", known), field="controller"
        )
    return name


def _form(asked: dict[str, str]) -> str:
    form = asked.get("form", "")
    if form not in FORMS:
        raise Fault(400, "request.invalid", f"Give one of {', '.join(FORMS)}.", field="form")
    return form


def _period(asked: dict[str, str]) -> tuple[str, str]:
    """`day` (2026-11-24) of a month the first seven characters."""
    try:
        day = date.fromisoformat(asked.get("day", "")).isoformat()
    except ValueError:
        raise Fault(400, "request.invalid", "Give a day.", field="day") from None
    return ("--month", day[:7]) if asked.get("span") == "month" else ("--day", day)


def _page(visit: Visit, asked: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    yesterday = day_in(visit.zone(), visit.app.gate.now()) - timedelta(days=1)
    shown = {"day": yesterday.isoformat(), "span": "day", "form": "pdf", **asked}
    return visit.show("reports", "reports", status, asked=shown, forms=list(FORMS), **context)
