"""Masking of called numbers for users who may see that a call was made, but not to whom."""

_HEAD, _TAIL = 3, 2
_SHORTEST = 8  # a shorter number would be shown nearly whole


def mask_number(number: str) -> str:
    """Hide all digits of an E.164 number except the first two and the last two. Hide any other text completely."""
    if len(number) < _SHORTEST or not number.startswith("+"):
        return "•••"
    return f"{number[:_HEAD]} {'•' * (len(number) - _HEAD - _TAIL)}{number[-_TAIL:]}"
