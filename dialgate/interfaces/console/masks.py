"""A called number for who may see that a call was made, and not to whom."""

_HEAD, _TAIL = 3, 2
_SHORTEST = 8  # what is shorter would be shown nearly whole


def masked(number: str) -> str:
    """Of an E.164 number its beginning and its last two digits; of anything else nothing."""
    if len(number) < _SHORTEST or not number.startswith("+"):
        return "•••"
    return f"{number[:_HEAD]} {'•' * (len(number) - _HEAD - _TAIL)}{number[-_TAIL:]}"
