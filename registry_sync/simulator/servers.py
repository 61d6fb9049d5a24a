"""The simulated registry's two doors to one folder: SFTP and HTTPS, with what may go wrong at a door."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import asyncssh
from aiohttp import web
from msgspec import Struct

USER, PASSWORD, TOKEN = "acme", "correct horse", "battery staple"


class Door(Struct):
    """`broken`: how many of the next requests end as at a server that is busy or breaks. `came` counts all."""

    port: int = 0
    host_key: str = ""
    broken: int = 0
    came: int = 0

    def fails(self) -> bool:
        self.came += 1
        self.broken -= 1
        return self.broken >= 0


@asynccontextmanager
async def sftp(folder: Path, key: asyncssh.SSHKey) -> AsyncIterator[Door]:
    """On a free port of 127.0.0.1; the user's root is the folder."""
    door = Door(host_key=key.export_public_key().decode().strip())

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            if door.fails():
                conn.abort()

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return (username, password) == (USER, PASSWORD)

    def rooted(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(folder).encode())

    listener = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], sftp_factory=rooted
    )
    door.port = listener.get_port()
    try:
        yield door
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def https(folder: Path, context: ssl.SSLContext) -> AsyncIterator[Door]:
    """On a free port of 127.0.0.1, as `registry_sync.sources.https` describes it."""
    exchange = _Exchange(folder)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/index.json", exchange.index)
    app.router.add_get("/{name}", exchange.file)
    app.router.add_put("/outbox/{name}", exchange.put)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    exchange.door.port = runner.addresses[0][1]
    try:
        yield exchange.door
    finally:
        await runner.cleanup()


class _Exchange:
    def __init__(self, folder: Path) -> None:
        self.door = Door()
        self._folder, self._seen = folder, set[str]()

    async def index(self, request: web.Request) -> web.Response:
        self._admit(request)
        names = sorted(path.name for path in (self._folder / "inbox").iterdir())
        return web.json_response({"files": names})

    async def file(self, request: web.Request) -> web.Response:
        self._admit(request)
        content = (self._folder / "inbox" / request.match_info["name"]).read_bytes()
        return web.Response(body=content, headers={"ETag": f'"{sha256(content).hexdigest()}"'})

    async def put(self, request: web.Request) -> web.Response:
        """What came before is not taken again, whether it is still there or not."""
        content = await request.read()
        self._admit(request)
        name = request.match_info["name"]
        if name in self._seen:
            raise web.HTTPPreconditionFailed
        self._seen.add(name)
        (self._folder / "outbox" / name).write_bytes(content)
        return web.Response(status=201)

    def _admit(self, request: web.Request) -> None:
        if self.door.fails():
            raise web.HTTPServiceUnavailable
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
