"""Copies of the logs that other nodes shipped to object storage, in `data/shipped/`.

Gates and commands read logs from files only. A shipped log is copied once and then completed. A growing file of an open segment
is put together from its objects, so each copy has the layout of a log folder.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

from dialgate.runtime.atomic_write import replace_file
from dialgate.shipping.target import PART, Objects

_PACKED: Final = ".parquet"


def fetch(objects: Objects, folder: Path, logs: Collection[str]) -> None:
    """Copy what is missing in `folder` of the nodes with these first logs. Raises `TargetFailed` and `OSError`."""
    sizes = {name: size for name, size in objects.sizes().items() if _belongs_to(name, logs)}
    # A checkpoint follows the entries that it covers, so that it never claims what is not here.
    for name in sorted(sizes, key=lambda name: (".checkpoints" in name, name)):
        size = sizes[name]
        path, part = folder / name, PART.fullmatch(name)
        if part is None:
            if not path.exists() or path.stat().st_size != size:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with replace_file(path) as file:
                    file.writelines(objects.read(name))
            if path.suffix == _PACKED:
                path.with_suffix(".ndjson").unlink(missing_ok=True)
        elif not {part[1], str(Path(part[1]).with_suffix(_PACKED))} & sizes.keys():
            _append(objects, name, folder / part[1], int(part[2]), size)


def _belongs_to(name: str, logs: Collection[str]) -> bool:
    log, slash, _ = name.partition("/")[2].partition("/")  # NODE/LOG/…
    return bool(slash) and log in logs and ".." not in name.split("/")


def _append(objects: Objects, name: str, path: Path, offset: int, size: int) -> None:
    """Append the object at `offset` of a growing file, unless the copy contains it. An interrupted copy is repeated."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if offset <= path.stat().st_size < offset + size:
        with path.open("r+b") as file:
            file.seek(offset)
            file.writelines(objects.read(name))
