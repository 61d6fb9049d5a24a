"""Jinja templates for pages and letters. Values are escaped, and a missing one is an error."""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

__all__ = ["Environment", "TemplateError", "environment"]


def environment(package: str, folder: str = "", own: Path | None = None) -> Environment:
    """Return the templates in a folder of a package.

    A file in the operator's folder `own` replaces the template of the same name. Such templates can only read what they are given.
    """
    packaged = PackageLoader(package, folder)
    kind = Environment if own is None else ImmutableSandboxedEnvironment
    return kind(
        loader=packaged if own is None else ChoiceLoader([FileSystemLoader(own), packaged]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
