"""Copies of the logs that other nodes shipped to object storage, in `data/shipped/`.

Gates and commands read logs from files only. A shipped log is copied once and then completed. A growing file of an open segment
is put together from its objects, so each copy has the layout of a log folder.
"""

from pathlib import Path
from typing import Final

from dialgate.runtime.atomic_write import replace_file
from dialgate.shipping.target import PART, Objects

_PACKED: Final = ".parquet"


def fetch(objects: Objects, folder: Path, own: str) -> None:
    """Copy what is missing in `folder`, except the logs of this node, whose first log is `own`.

    Raises `TargetFailed` and `OSError`.
    """
    sizes = {name: size for name, size in objects.sizes().items() if _is_foreign(name, own)}
    for name, size in sizes.items():
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


def _is_foreign(name: str, own: str) -> bool:
    node, log, *rest = [*name.split("/"), ""]
    return bool(rest) and log != own and ".." not in (node, log, *rest)


def _append(objects: Objects, name: str, path: Path, offset: int, size: int) -> None:
    """Append the object at `offset` of a growing file, unless the copy contains it. An interrupted copy is repeated."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if offset <= path.stat().st_size < offset + size:
        with path.open("r+b") as file:
            file.seek(offset)
            file.writelines(objects.read(name))
