"""Tests of the transports (folder, SFTP and HTTPS) and their failures, on real servers."""

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

from tests.support.registry_servers import PASSWORD, TOKEN, USER, ServerControl, serve_https, serve_sftp
from tests.support.registry_world import JobWorld, load_list

QUICK = {"timeout_seconds": 5, "attempts": 3, "retry_seconds": 0.001}


def make_certificate(folder: Path) -> ssl.SSLContext:
    """Create a self-signed certificate in `ca.pem`, and return a server context that uses it."""
    write_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(write_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(write_key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        write_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def secret(path: Path, text: str) -> str:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path.name


class ServedJob:
    """A job with its registry behind an SFTP or HTTPS server."""

    def __init__(self, job: JobWorld, control: ServerControl, source: dict[str, Any]) -> None:
        self.job, self.control, self.source = job, control, source
        self.use()

    def use(self, **changes: Any) -> None:
        self.job.asked["source"] = self.source | changes
        self.job.configure()


@pytest.fixture(params=["sftp", "https"])
async def served_job(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ServedJob]:
    job = JobWorld(tmp_path)
    await load_list(job)
    async with AsyncExitStack() as stack:
        if request.param == "sftp":
            control = await stack.enter_async_context(
                serve_sftp(tmp_path / "rpo", asyncssh.generate_private_key("ssh-ed25519"))
            )
            source = {
                "kind": "sftp", "host": "127.0.0.1", "port": control.port, "user": USER, "host_key": control.host_key,
                "password_file": secret(tmp_path / "password", PASSWORD), "outbox": "outbox", "inbox": "inbox",
                "patience": QUICK,
            }  # fmt: skip
        else:
            context = await asyncio.to_thread(make_certificate, tmp_path)
            control = await stack.enter_async_context(serve_https(tmp_path / "rpo", context))
            source = {
                "kind": "https", "url": f"https://localhost:{control.port}/", "ca_file": "ca.pem",
                "token_file": secret(tmp_path / "token", TOKEN), "patience": QUICK,
            }  # fmt: skip
        yield ServedJob(job, control, source)


async def test_packages_go_out_and_answers_come_in(served_job: ServedJob) -> None:
    first = await served_job.job.run_once()
    assert (first.submitted, first.alarms) == (300, ())
    second = await served_job.job.answer_and_run()
    assert (second.answered, second.alarms) == (300, ())
    assert set(served_job.job.registry.submitted.values()) == {1}


async def test_transient_failure_is_retried(served_job: ServedJob) -> None:
    served_job.control.failures = 2
    assert (await served_job.job.run_once()).submitted == 300
    served_job.job.registry.work()
    assert set(served_job.job.registry.submitted.values()) == {1}


async def test_permanent_failure_raises_an_alarm_and_the_next_run_recovers(served_job: ServedJob) -> None:
    served_job.control.failures = 1_000_000
    part = await served_job.job.run_once()
    assert part.submitted == 0
    assert "source_failed" in {alarm.kind for alarm in part.alarms}
    assert served_job.job.alarm("source_failed") == 1
    served_job.control.failures = 0
    part = await served_job.job.run_once()
    assert (part.submitted, served_job.job.alarm("source_failed")) == (300, 0)
    served_job.job.registry.work()
    assert set(served_job.job.registry.submitted.values()) == {1}


async def test_refused_credential_is_neither_retried_nor_shown(served_job: ServedJob) -> None:
    name = "password_file" if "password_file" in served_job.source else "token_file"
    served_job.use(**{name: secret(served_job.job.folder / "wrong", "Tr0ub4dor&3")})
    part = await served_job.job.run_once()
    texts = [alarm.text for alarm in part.alarms if alarm.kind == "source_failed"]
    assert len(texts) in {1, 2}
    assert not any("Tr0ub4dor" in text for text in texts)
    assert served_job.control.requests <= 3


async def test_nothing_is_sent_to_an_unauthenticated_server(served_job: ServedJob) -> None:
    """The server has a wrong host key, or a certificate from an unknown authority."""
    if "host_key" in served_job.source:
        other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
        served_job.use(host_key=other)
        fault = "the server's key differs from host_key"
    else:
        (served_job.job.folder / "elsewhere").mkdir()
        await asyncio.to_thread(make_certificate, served_job.job.folder / "elsewhere")
        served_job.use(ca_file="elsewhere/ca.pem")
        fault = "certificate verify failed"
    part = await served_job.job.run_once()
    assert part.submitted == 0
    assert any(fault in alarm.text for alarm in part.alarms)


async def test_package_handed_over_before_a_crash_is_not_sent_again(served_job: ServedJob) -> None:
    """The job was killed after the registry took the package, before the new state was recorded."""
    await served_job.job.run_once()
    served_job.job.registry.work()
    for path in served_job.job.plan.work.glob("rpo.acme/*/package.json"):
        path.write_text(path.read_text().replace('"submitted"', '"uploaded"'))
    part = await served_job.job.run_once()
    assert part.answered == 300
    served_job.job.registry.work()
    assert set(served_job.job.registry.packages.values()) == {1}


async def test_file_that_may_be_incomplete_is_ignored(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    job.asked["source"] = job.asked["source"] | {"settle_seconds": 60}
    job.configure()
    await load_list(job)
    await job.run_once()
    job.registry.work()
    newest = max(path.stat().st_mtime_ns for path in (tmp_path / "rpo" / "inbox").iterdir()) // 1_000_000
    for seconds, answered in [(59, 0), (61, 300)]:
        job.clock.at = newest + seconds * 1000
        assert (await job.run_once()).answered == answered


async def test_missing_outbox_does_not_count_as_packages_handed_over(tmp_path: Path) -> None:
    """An unmounted folder must not look like a registry that took all packages."""
    job = JobWorld(tmp_path)
    await load_list(job)
    (tmp_path / "rpo" / "outbox").rename(tmp_path / "gone")
    part = await job.run_once()
    assert (part.submitted, job.alarm("source_failed")) == (0, 1)
    (tmp_path / "gone").rename(tmp_path / "rpo" / "outbox")
    await job.run_once()
    job.registry.work()
    assert set(job.registry.submitted.values()) == {1}


async def test_missing_folders_in_the_data_folder_are_created(tmp_path: Path) -> None:
    job = JobWorld(tmp_path)
    folder = job.plan.gate.data / "rpo"
    job.asked["source"] = job.asked["source"] | {"outbox": "data/rpo/outbox", "inbox": "data/rpo/inbox"}
    job.configure()
    await load_list(job)
    part = await job.run_once()
    assert (part.submitted, job.alarm("source_failed")) == (300, 0)
    assert {path.name for path in folder.iterdir()} == {"outbox", "inbox"}
