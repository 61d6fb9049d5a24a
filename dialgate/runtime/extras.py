"""Extras: optional packages that only some features need.

`pip install 'dialgate[NAME]'` installs them.
"""

from importlib.util import find_spec
from typing import Final

from dialgate.core.refusal import Refused

# The modules to find, by extra. pyproject.toml has the packages; a test compares both.
MODULES: Final = {
    "archive": ("pyarrow",),
    "letters": ("weasyprint",),
    "mcp": ("mcp",),
    "oidc": ("authlib", "httpx"),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "reports": ("aiosmtplib", "fpdf"),
    "s3": ("obstore",),
    "sftp": ("asyncssh",),
    "xlsx": ("python_calamine", "xlsxwriter"),
}
CODE: Final = "extra.missing"


class MissingExtra(Refused):
    """Raised if a feature's extra is not installed. The message says what to install."""

    def __init__(self, extra: str, feature: str) -> None:
        text = f"{feature} needs an extra: run `pip install 'dialgate[{extra}]'`."
        super().__init__(CODE, text, status=501)


def require(extra: str, feature: str) -> None:
    """Raise `MissingExtra` unless `extra` is installed. Call this before a lazy import of its modules.

    `feature` is the subject of the message, such as "Shipping to S3".
    """
    if not is_installed(extra):
        raise MissingExtra(extra, feature)


def is_installed(extra: str) -> bool:
    return all(map(_exists, MODULES[extra]))


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False
