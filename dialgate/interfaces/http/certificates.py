"""The HTTP server's TLS certificate. It is loaded again when the configuration is reloaded."""

import ssl

from cryptography.x509 import load_pem_x509_certificates
from msgspec import Struct

from dialgate.config.configuration import Config, ConfigError
from dialgate.observability.metrics import Metrics


class Certificate(Struct, frozen=True):
    """A certificate in use. `expires` is the earliest expiry in the chain, in seconds since 1970."""

    context: ssl.SSLContext
    expires: float


def load(config: Config) -> Certificate | None:
    """Load the configured certificate and key, or return None for plain HTTP. Raises `ConfigError`.

    Each load creates a new TLS context, because loading a certificate with the wrong key would break the context in use.
    """
    listen = config.settings.listen
    if not listen.tls_certificate:
        return None
    chain = config.folder / listen.tls_certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(chain, config.folder / (listen.tls_key or listen.tls_certificate))
        ends = [part.not_valid_after_utc for part in load_pem_x509_certificates(chain.read_bytes())]
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            [f"listen.tls_certificate: {_why(error)}. Set it to a PEM chain, and listen.tls_key to its key"]
        ) from error
    return Certificate(context, min(ends).timestamp())


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "the key does not belong to the certificate"
    return str(getattr(error, "strerror", None) or error)


def show(certificate: Certificate | None, metrics: Metrics) -> None:
    if certificate is not None:
        metrics.certificates.labels("listen").set(certificate.expires)
