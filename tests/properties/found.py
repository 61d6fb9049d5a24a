"""Histories that once ended in an unlawful allow, as `test_last_word` found them."""

from typing import Final

from tests.properties.histories import (
    Answer,
    BackUp,
    Check,
    Consent,
    End,
    History,
    Load,
    Pass,
    Record,
    Rectify,
    RestoreLog,
    Revoke,
    SendAgain,
    Sign,
    Turn,
)

FOUND: Final = {
    "Excel dropped the zero of another person's number": History(
        "mobile", (Turn(Record((Consent("a", 0, "sale"),), "excel", neighbour=True)),)
    ),
    "a text file from a spreadsheet that dropped the zero": History(
        "mobile", (Turn(Record((Consent("a", 0, "sale"),), "bare", neighbour=True)),)
    ),
    "Excel dropped the zero of a number on a list": History("mobile", (Turn(Load("excel", neighbour=True)),)),
    "a contract was cancelled before it began": History(
        "unlisted", (Turn(Sign("a", 2)), Turn(End("a", 0)), Turn(Pass(6)))
    ),
    "a rectified consent was sent again": History(
        "unlisted",
        (Turn(Record((Consent("a", 0, "sale"),))), Turn(Rectify("consent", "a", "goods")), Turn(SendAgain())),
    ),
    "a consent whose date was rectified was sent again after another": History(
        "mobile",
        (
            Turn(Record((Consent("a", 0, "sale"),))),
            Turn(Rectify("consent", "a", "earlier")),
            Turn(Record((Consent("a", 1, "sale"),))),
            Turn(Rectify("consent", "a", "goods")),
            Turn(SendAgain()),
        ),
    ),
    "a contract was sent again without its end": History(
        "unlisted", (Turn(Sign("a", -3, -1)), Turn(Pass(93)), Turn(Sign("a", -34)))
    ),
    "a stop was dated ahead": History("directory", (Turn(Revoke("controller", -1)),)),
    "a stop dated ahead in a file": History("directory", (Turn(Revoke("controller", -1, "letter", "csv")),)),
    "an answer came from a wrong clock": History(
        "directory", (Turn(Answer(enrolled=False, ahead=30)), Turn(Pass(33)), Turn(Check(asked=False)))
    ),
    "an enrolment came from a wrong clock": History(
        "directory", (Turn(Record((Consent("a", 0, "sale"),))), Turn(Answer(enrolled=True, ahead=30)))
    ),
    "the log was older than the store": History(
        "directory",
        (Turn(BackUp()), Turn(Check()), Turn(Check()), Turn(Check()), Turn(RestoreLog()), Turn(Check())),
    ),
}
