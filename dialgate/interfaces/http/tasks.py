"""The endpoint for what supervisors and officers must do soon."""

from typing import Final

from aiohttp import web
from msgspec import Struct

from dialgate.app import App
from dialgate.config.clients import Client
from dialgate.interfaces.http.endpoint import EndpointGroup
from dialgate.interfaces.status import Task, read_status, tasks_for

TASKS: Final = EndpointGroup("Tasks", "See what must be done soon.")


class TaskList(Struct, frozen=True):
    tasks: tuple[Task, ...]


@TASKS.endpoint("GET", "/v1/tasks", scope="watch", errors=("store.unavailable",))
async def list_tasks(_: web.Request, app: App, client: Client) -> TaskList:
    """Return what the client may do of what must be done soon for its controllers, the most urgent first.

    Registry answers, held imports, proofs of caller IDs, campaigns and shadow mode that end, requests of data subjects that are due, breaches to be
    notified within 72 hours, changes of law that nobody has acknowledged, reports that were not sent by mail, and campaigns that have used two thirds of a limit on abandoned calls. Also, for a client with every controller, a backup that is due, and logs that are damaged or were not verified for two days.
    """
    found = (await read_status(app, client.controllers)).tasks
    return TaskList(tuple(tasks_for(found, client.scopes)))
