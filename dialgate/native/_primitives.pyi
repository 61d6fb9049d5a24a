from mmap import mmap

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
