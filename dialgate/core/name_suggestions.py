"""Messages that list the permitted names, or suggest the one that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

_SHOWN: Final = 20


def choose(text: str, names: Iterable[str]) -> str:
    """Return the text followed by the permitted names, at most 20 of them."""
    known = sorted(names)
    if not known:
        return f"{text}: none available."
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return f"{text}: {', '.join(known[:_SHOWN])}{more}."


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the permitted name that is most like it, or "" if none is."""
    near = get_close_matches(name, known, 1)
    return f"; did you mean `{near[0]}`?" if near else ""
