"""The page for downloading a report on a controller's calls for a day or a month."""

import asyncio
import sys
from datetime import date, timedelta
from typing import Any, Final

from aiohttp import web

from dialgate.core.local_time import day_in
from dialgate.core.name_suggestions import choose
from dialgate.interfaces.console.visit import PREVIEWING, Visit
from dialgate.interfaces.http.errors import Fault
from dialgate.runtime import extras
from dialgate.runtime.extras import MissingExtra, require

FORMATS: Final = {"pdf": "application/pdf", "html": "text/html", "csv": "text/csv"}


async def show_form(visit: Visit) -> web.StreamResponse:
    return _page(visit, {})


async def download(visit: Visit) -> web.StreamResponse:
    """Return the report that `dialgate report` writes.

    The command runs in a low-priority process, because reading a month of the log takes a while.
    """
    fields = await visit.form()
    try:
        owner, format_ = _controller(visit, fields), _format(fields)
        period = _period(fields)
        if format_ == "pdf":
            require("reports", "A report as PDF")
    except Fault as fault:
        return _page(visit, fields, fault.status, error=fault.problem.code)
    except MissingExtra:
        return _page(visit, fields, 501, error=extras.CODE)
    command = ("nice", "-n", "10", sys.executable, "-m", "dialgate", "report")
    source = ("--config", str(visit.app.config.path), "--controller", owner)
    content = (*period, "--format", format_, "--language", visit.words.language)
    async with visit.request.app[PREVIEWING].hold(visit.client.name):
        body = await _run_command(*command, *source, *content)
    if body is None:
        return _page(visit, fields, 503, error="gate.unavailable")
    name = f'attachment; filename="dialgate-{owner}-{period[1]}.{format_}"'
    headers = {"Content-Disposition": name, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=body, headers={**headers, "Content-Type": f"{FORMATS[format_]}; charset=utf-8"})


def _controller(visit: Visit, fields: dict[str, str]) -> str:
    controllers = visit.client.controllers
    name = fields.get("controller", "") or (controllers[0] if len(controllers) == 1 else "")
    if name not in controllers:
        raise Fault(
            404, "controller.unknown", choose("Use one of your controllers", controllers), field="controller"
        )
    return name


def _format(fields: dict[str, str]) -> str:
    format_ = fields.get("form", "")
    if format_ not in FORMATS:
        raise Fault(400, "request.invalid", f"Choose one of {', '.join(FORMATS)}.", field="form")
    return format_


def _period(fields: dict[str, str]) -> tuple[str, str]:
    """Return the period as a command-line option and its value: a day (2026-11-24) or a month (2026-11)."""
    try:
        day = date.fromisoformat(fields.get("day", "")).isoformat()
    except ValueError:
        raise Fault(400, "request.invalid", "Enter a day, such as 2026-11-24.", field="day") from None
    return ("--month", day[:7]) if fields.get("span") == "month" else ("--day", day)


def _page(visit: Visit, fields: dict[str, str], status: int = 200, **context: Any) -> web.Response:
    yesterday = day_in(visit.zone(), visit.app.gate.now()) - timedelta(days=1)
    values = {"day": yesterday.isoformat(), "span": "day", "form": "pdf", **fields}
    return visit.show("reports", "reports", status, fields=values, formats=list(FORMATS), **context)


async def _run_command(*command: str) -> bytes | None:
    """Run a command and return its standard output, or None if it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:  # the browser has disconnected
        process.kill()
        raise
    return None if process.returncode else output
