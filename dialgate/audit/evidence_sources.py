"""The files and keys of one log from which evidence is made. Another node may have shipped the log."""

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from dialgate.crypto.keys import Keys, PeerKeys
from dialgate.crypto.log_signing import Signer
from dialgate.decision_log.chains import Chains
from dialgate.store import Ledger


class Sources(Struct, frozen=True, kw_only=True):
    data: Path  # of this node
    keys: Keys  # of the log
    signer: Signer
    store: Ledger
    folder: Path  # of the log
    kept: Path  # the laws and configurations that the log names
    public: Mapping[str, bytes]  # the keys that signed the checkpoints
    others: tuple[Path, ...]  # folders of the other logs

    @classmethod
    def for_log(cls, chains: Chains, log: str, *, signer: Signer, store: Ledger) -> "Sources":
        """Return the sources of a log in `chains`. Raises `KeysUnusable`."""
        own, home = chains.homes[0].folder, chains.home_of(log) or chains.homes[0]
        folders = {name: path for other in chains.homes for name, path in other.logs.items()}
        # Not the keys in the copies: they would prove whatever somebody wrote there.
        published = [PeerKeys.open(other.key_file).public for other in chains.homes[1:]]
        return cls(
            data=own,
            keys=home.keys(log),
            signer=signer,
            store=store,
            folder=folders[log],
            kept=home.folder / "kept",
            public=dict(ChainMap(dict(signer.public), *map(dict, published))),
            others=tuple(path for name, path in folders.items() if name != log),
        )
