"""The page on evidence: whether the log of this gate is proved."""

from aiohttp import web

from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import Fields, Visit, redirect, serves_form
from dialgate.interfaces.http.administration import get_log_verification, verify_log


async def _page(visit: Visit, fields: Fields, status: int = 200, error: str = "") -> web.Response:
    verification = await get_log_verification(visit.request, visit.app, visit.client)
    return visit.show(
        "evidence",
        "evidence",
        status,
        proof=verification.last,
        nightly=visit.app.config.settings.verify_log_nightly,
        fields=fields,
        error=error,
    )


async def show_evidence(visit: Visit) -> web.StreamResponse:
    return await _page(visit, {})


@serves_form(_page)
async def verify(visit: Visit, _: Fields) -> web.StreamResponse:
    """Verify the log now. The page then shows the result."""
    await verify_log(visit.request, visit.app, visit.client)
    return redirect(f"{ROOT}/evidence")
