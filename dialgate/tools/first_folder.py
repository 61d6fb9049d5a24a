"""The folder with a first configuration: written whole, or not at all."""

import secrets
import shutil
from contextlib import ExitStack
from pathlib import Path

from dialgate.core.model import SECOND
from dialgate.runtime.atomic_write import sync_folder
from dialgate.tools.first_configuration import NewKeys, SetupDraft, write
from dialgate.tools.policy.first_cases import write_first_cases


def create_folder(draft: SetupDraft, folder: Path) -> tuple[NewKeys, list[str]]:
    """Create the folder with all files, or undo everything. Return the clients' keys and the file names.

    A folder that already contains files is renamed. Raises `ConfigError` and `OSError`.
    """
    keys = NewKeys(secrets.token_urlsafe(32), secrets.token_urlsafe(32))
    with ExitStack() as undo:
        if folder.is_mount() and not any(folder.iterdir()):  # a volume, which cannot be renamed
            undo.callback(_empty, folder)
            names = write(draft, folder, keys)
        else:
            names = _replace(draft, folder, keys, undo)
        names.append(write_first_cases(folder, draft.now))
        sync_folder(folder.parent)
        undo.pop_all()
    return keys, names


def _replace(draft: SetupDraft, folder: Path, keys: NewKeys, undo: ExitStack) -> list[str]:
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)  # from an earlier run that was killed
    undo.callback(shutil.rmtree, new, ignore_errors=True)
    new.mkdir(parents=True)
    names = write(draft, new, keys)
    if folder.exists() and any(folder.iterdir()):
        earlier = folder.rename(folder.with_name(f"{folder.name}.{draft.now // SECOND}"))
        undo.callback(earlier.rename, folder)
    new.rename(folder)
    undo.callback(folder.rename, new)
    return names


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
