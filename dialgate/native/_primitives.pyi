from collections.abc import Sequence
from mmap import mmap

def chained(head: bytes, bodies: Sequence[bytes], /) -> tuple[bytes, bytes]: ...
def followed(head: bytes, data: bytes, most: int, /) -> tuple[bytes, list[bytes], int]: ...
def paired(hashes: Sequence[bytes], /) -> list[bytes]: ...
def digits(text: str, /) -> str: ...

class Tagger:
    def __init__(
        self,
        file: mmap,
        words: int,
        supers: int,
        directory: int,
        ranks: int,
        tags: int,
        word_count: int,
        super_count: int,
        number_count: int,
        /,
    ) -> None: ...
    def __call__(self, number: int, /) -> int: ...
    def close(self) -> None: ...
