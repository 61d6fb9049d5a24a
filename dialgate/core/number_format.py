"""Patterns and error texts for a called number that is written in the wrong format.

The number may be valid if it is written differently or parsed with a dial region. The texts contain no digits, so they
can be logged. Never change a text, because old decision records contain the texts and are compared with
`PROBLEMS_OF_WRITING`.
"""

import re
from typing import Final

STRAY_SEPARATOR: Final = "has a separator that is not between digits, or brackets that do not pair"
NO_COUNTRY_CODE: Final = "has no country code, and bare numbers are not accepted here"
TWO_READINGS: Final = "can be read in more than one way; write it with a plus sign and the country code"
OTHER_COUNTRY_CODE: Final = (
    "is in a range that has another country code; write it with a plus sign and that country code"
)
SCIENTIFIC: Final = (
    "is in scientific notation, in which a spreadsheet loses digits; format the column as text"
)
# Ranges that a country dials as its own although they have another country code. `phonenumbers` accepts them under both.
FOREIGN_RANGE: Final = re.compile(
    # France: Réunion and Mayotte +262, Guadeloupe +590, Guyane +594, Martinique +596, Saint-Pierre-et-Miquelon +508.
    # ARCEP 2018-0881, annex 1; its list of blocks (MAJNUM) gives 0261 and 09390 to 09394 to European France.
    r"\+33(?:26[2389]|508|59[0468]|939[5-9]|947|976)"
    # Ireland dials the landlines of Northern Ireland, +44 28, as 048 (ComReg, numbering conditions).
    r"|\+35348"
)
# The first pattern that matches is reported.
FOREIGN_MATTER: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.ASCII | re.IGNORECASE), problem)
    for pattern, problem in (
        (r"^$", "is empty"),
        (r"^(?s:.){33}", "is longer than any telephone number can be written"),
        (
            r"[^\x00-\x7f]",
            "holds a character outside ASCII: a digit of another script, a dash or an invisible mark",
        ),
        (r"[\x00-\x1f\x7f]", "holds a control character"),
        (r"^[a-z]+:|@", "is a URI, not a telephone number"),
        (r"%", "is percent-encoded"),
        (r"^\d[.,]?\d*e\+\d+$", SCIENTIFIC),  # 3,90612E+11
        (r"[,;]", "carries a pause or a parameter"),
        (r"[*#]", "carries a service code or tones"),
        (r"[a-z]", "holds letters: an extension, a pause or a vanity number"),
        (r"\+.*\+", "has two plus signs"),
        (r".\+", "has a plus sign that is not at the start"),
        (r"[^-0-9+ .()/]", "holds a character that no telephone number has"),
        (r"^\+?\d+\.0+$", "ends in a decimal zero: a program stored it as a decimal number"),
        (r"\(\s*0\s*\)", "has a trunk zero in brackets, which is dialled or not as one reads it"),
    )
)
PROBLEMS_OF_WRITING: Final = frozenset(
    (
        *(problem for _, problem in FOREIGN_MATTER),
        STRAY_SEPARATOR,
        NO_COUNTRY_CODE,
        TWO_READINGS,
        OTHER_COUNTRY_CODE,
    )
)
