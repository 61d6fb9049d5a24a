"""Jinja templates for pages. Values are escaped, and a missing one is an error."""

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["Environment", "environment"]


def environment(package: str, folder: str = "") -> Environment:
    """Return the templates in a folder of a package."""
    return Environment(
        loader=PackageLoader(package, folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
