"""SFTP and HTTPS servers for the simulated registry's folder, with simulated failures."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import asyncssh
from aiohttp import web
from msgspec import Struct

USER, PASSWORD, TOKEN = "acme", "correct horse", "battery staple"


class ServerControl(Struct):
    """Controls for a running server. The next `failures` requests fail. `requests` counts all requests."""

    port: int = 0
    host_key: str = ""
    failures: int = 0
    requests: int = 0

    def next_fails(self) -> bool:
        self.requests += 1
        self.failures -= 1
        return self.failures >= 0


@asynccontextmanager
async def serve_sftp(folder: Path, key: asyncssh.SSHKey) -> AsyncIterator[ServerControl]:
    """Run an SFTP server on a free port on 127.0.0.1, with the folder as the user's root."""
    control = ServerControl(host_key=key.export_public_key().decode().strip())

    class Server(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            if control.next_fails():
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
    control.port = listener.get_port()
    try:
        yield control
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def serve_https(folder: Path, context: ssl.SSLContext) -> AsyncIterator[ServerControl]:
    """Run an HTTPS server on a free port on 127.0.0.1, with the API of `registry_sync.sources.https`."""
    exchange = _Exchange(folder)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/index.json", exchange.index)
    app.router.add_get("/{name}", exchange.file)
    app.router.add_put("/outbox/{name}", exchange.put)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    exchange.control.port = runner.addresses[0][1]
    try:
        yield exchange.control
    finally:
        await runner.cleanup()


class _Exchange:
    def __init__(self, folder: Path) -> None:
        self.control = ServerControl()
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
        """Store an uploaded file.

        Each name is accepted only once, even after the registry has removed the file.
        """
        content = await request.read()
        self._admit(request)
        name = request.match_info["name"]
        if name in self._seen:
            raise web.HTTPPreconditionFailed
        self._seen.add(name)
        (self._folder / "outbox" / name).write_bytes(content)
        return web.Response(status=201)

    def _admit(self, request: web.Request) -> None:
        if self.control.next_fails():
            raise web.HTTPServiceUnavailable
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise web.HTTPUnauthorized
