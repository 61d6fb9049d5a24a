"""The three doors: a folder, SFTP and HTTPS, on real servers, with what goes wrong at each."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from registry_sync.simulator.servers import PASSWORD, TOKEN, USER, Door, https, sftp
from tests.support.registry_world import Night, load_list

QUICK = {"timeout_seconds": 5, "attempts": 3, "retry_seconds": 0.001}


def certificate(folder: Path) -> ssl.SSLContext:
    """Of an authority of its own, in `ca.pem`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def secret(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path.name


class Doors:
    """A night's work through one of the doors."""

    def __init__(self, night: Night, door: Door, source: dict[str, Any]) -> None:
        self.night, self.door, self.source = night, door, source
        self.use()

    def use(self, **changes: Any) -> None:
        self.night.asked["source"] = self.source | changes
        self.night.configure()


@pytest.fixture(params=["sftp", "https"])
async def doors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Doors]:
    night = Night(tmp_path)
    await load_list(night)
    async with AsyncExitStack() as stack:
        if request.param == "sftp":
            door = await stack.enter_async_context(
                sftp(tmp_path / "rpo", asyncssh.generate_private_key("ssh-ed25519"))
            )
            source = {
                "kind": "sftp", "host": "127.0.0.1", "port": door.port, "user": USER, "host_key": door.host_key,
                "password_file": secret(tmp_path / "password", PASSWORD), "outbox": "outbox", "inbox": "inbox",
                "patience": QUICK,
            }  # fmt: skip
        else:
            context = await asyncio.to_thread(certificate, tmp_path)
            door = await stack.enter_async_context(https(tmp_path / "rpo", context))
            source = {
                "kind": "https", "url": f"https://localhost:{door.port}/", "ca_file": "ca.pem",
                "token_file": secret(tmp_path / "token", TOKEN), "patience": QUICK,
            }  # fmt: skip
        yield Doors(night, door, source)


async def test_packages_go_out_and_answers_come_in(doors: Doors) -> None:
    first = await doors.night.part()
    assert (first.submitted, first.alarms) == (300, ())
    second = await doors.night.night()
    assert (second.answered, second.alarms) == (300, ())
    assert set(doors.night.registry.submitted.values()) == {1}


async def test_what_may_pass_is_tried_again(doors: Doors) -> None:
    doors.door.broken = 2
    assert (await doors.night.part()).submitted == 300
    doors.night.registry.work()
    assert set(doors.night.registry.submitted.values()) == {1}


async def test_what_does_not_pass_is_an_alarm_and_the_next_run_goes_on(doors: Doors) -> None:
    doors.door.broken = 1_000_000
    part = await doors.night.part()
    assert part.submitted == 0
    assert "source_failed" in {alarm.kind for alarm in part.alarms}
    assert doors.night.alarm("source_failed") == 1
    doors.door.broken = 0
    part = await doors.night.part()
    assert (part.submitted, doors.night.alarm("source_failed")) == (300, 0)
    doors.night.registry.work()
    assert set(doors.night.registry.submitted.values()) == {1}


async def test_a_credential_that_is_refused_is_not_tried_again_and_not_told(doors: Doors) -> None:
    name = "password_file" if "password_file" in doors.source else "token_file"
    doors.use(**{name: secret(doors.night.folder / "wrong", "Tr0ub4dor&3")})
    part = await doors.night.part()
    texts = [alarm.text for alarm in part.alarms if alarm.kind == "source_failed"]
    assert len(texts) in {1, 2}
    assert not any("Tr0ub4dor" in text for text in texts)
    assert doors.door.came <= 3


async def test_a_server_that_cannot_prove_itself_is_told_nothing(doors: Doors) -> None:
    """Another host key, another authority."""
    if "host_key" in doors.source:
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        doors.use(host_key=other)
        fault = "the server shows another key than host_key"
    else:
        (doors.night.folder / "elsewhere").mkdir()
        await asyncio.to_thread(certificate, doors.night.folder / "elsewhere")
        doors.use(ca_file="elsewhere/ca.pem")
        fault = "certificate verify failed"
    part = await doors.night.part()
    assert part.submitted == 0
    assert any(fault in alarm.text for alarm in part.alarms)


async def test_a_package_taken_away_while_we_were_dead_is_not_sent_again(doors: Doors) -> None:
    """Killed after the registry had it and before that was noted."""
    await doors.night.part()
    doors.night.registry.work()
    for path in doors.night.plan.work.glob("rpo.acme/*/package.json"):
        path.write_text(path.read_text().replace('"submitted"', '"uploaded"'))
    part = await doors.night.part()
    assert part.answered == 300
    doors.night.registry.work()
    assert set(doors.night.registry.packages.values()) == {1}


async def test_a_file_that_is_still_being_written_is_left_alone(tmp_path: Path) -> None:
    night = Night(tmp_path)
    night.asked["source"] = night.asked["source"] | {"settle_seconds": 60}
    night.configure()
    await load_list(night)
    await night.part()
    night.registry.work()
    newest = max(path.stat().st_mtime_ns for path in (tmp_path / "rpo" / "inbox").iterdir()) // 1_000_000
    for seconds, answered in [(59, 0), (61, 300)]:
        night.hand.at = newest + seconds * 1000
        assert (await night.part()).answered == answered


async def test_an_outbox_that_is_not_there_is_no_package_taken(tmp_path: Path) -> None:
    """A mount that is gone must not pass for a registry that has taken everything."""
    night = Night(tmp_path)
    await load_list(night)
    (tmp_path / "rpo" / "outbox").rename(tmp_path / "gone")
    part = await night.part()
    assert (part.submitted, night.alarm("source_failed")) == (0, 1)
    (tmp_path / "gone").rename(tmp_path / "rpo" / "outbox")
    await night.part()
    night.registry.work()
    assert set(night.registry.submitted.values()) == {1}
