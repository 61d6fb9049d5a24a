"""Masking of called numbers for users who may see that a call was made, but not to whom."""

_HEAD, _TAIL = 3, 2
_SHORTEST = 8  # a shorter number would be shown nearly whole


def masked(number: str) -> str:
    """Return the first digits and the last two of an E.164 number. Any other text is masked completely."""
    if len(number) < _SHORTEST or not number.startswith("+"):
        return "•••"
    return f"{number[:_HEAD]} {'•' * (len(number) - _HEAD - _TAIL)}{number[-_TAIL:]}"
