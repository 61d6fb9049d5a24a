"""The page with registry consultations, and with held imports, which two people release."""

from typing import Any

from aiohttp import web

from dialgate.interfaces.console.navigation import ROOT
from dialgate.interfaces.console.visit import EMPTY, Fields, Visit, redirect, serves_form
from dialgate.interfaces.held_imports import held_imports, release_import
from dialgate.interfaces.status import read_status


async def show_registries(visit: Visit, _: Fields = EMPTY, **context: Any) -> web.Response:
    controllers = visit.client.controllers
    registries = (await read_status(visit.app, controllers)).registries
    holds = await held_imports(visit.app, controllers)
    return visit.show("registries", registries=registries, holds=holds, **context)


@serves_form(show_registries)
async def release(visit: Visit, _: Fields) -> web.StreamResponse:
    await release_import(visit.app, visit.client, visit.item)
    return redirect(f"{ROOT}/registries")
