"""Metrics files for the textfile collector of the node exporter."""

from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile


def write_textfile(registry: CollectorRegistry, textfile: Path) -> None:
    """Write the metrics of a run. Raises `OSError`."""
    textfile.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(textfile), registry)
    textfile.chmod(0o644)  # the exporter runs as another user; the file contains no numbers
