"""A number in free text is blanked in any format, and nothing else is."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dialgate.crypto.masking import blank_numbers, digits_of, readings, taken_out, without, without_raw

NUMBER = "+393331234567"
WRITTEN = [
    "3331234567",
    "+39 333 123 4567",
    "333.123.4567",
    "333-123-4567",
    "333/1234567",
    "333_123_4567",
    "(+39) 333 - 123 -- 4567",
    "333\u200b123\u200b4567",
    "333\u00a0123\u20604567",
    "".join(chr(0x660 + int(digit)) for digit in "3331234567"),
    "".join(chr(0xFF10 + int(digit)) for digit in "3331234567"),
    "\u00b3\u00b3\u00b3\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077",
]


@pytest.mark.parametrize("written", WRITTEN)
def test_a_number_is_blanked_in_any_notation(written: str) -> None:
    for text in (written, f"lead {written} of May", f"{written}, again {written}"):
        for left in (blank_numbers(text), without(text, NUMBER), without_raw(text, f"{NUMBER} ext. 5")):
            assert digits_of(left) == ""
            assert words_of(left) == words_of(text)
        assert digits_of(taken_out(text, NUMBER, lambda _: "[x]")) == ""


def words_of(text: str) -> list[str]:
    return [word for word in ("lead", "of May", "again") if word in text]


@pytest.mark.parametrize(
    "text", ["", "acme-fibre", "winter 2024", "1732524.1", "a1b2c3d4e5f6", "call 17, agent 4"]
)
def test_text_without_a_number_is_kept(text: str) -> None:
    assert without(text, NUMBER) == without_raw(text, NUMBER) == text
    assert taken_out(text, NUMBER, lambda _: "[x]") == text


def test_an_id_with_the_digits_of_another_number_is_kept() -> None:
    assert without("1795510800.4711", NUMBER) == "1795510800.4711"
    assert taken_out("20261124 and 333 1234567", NUMBER, lambda _: "#") == "20261124 and #"


@given(some.text(some.sampled_from(string.printable + "\u200b\u0661\u00b2\uff11"), max_size=40))
def test_no_run_of_six_digits_is_left_and_blanking_twice_changes_nothing(text: str) -> None:
    left = blank_numbers(text)
    assert not any(readings(left))
    assert blank_numbers(left) == left


def test_a_reading_joins_neighbouring_groups() -> None:
    assert set(readings("2026-11 333 1234567")) >= {"3331234567", "202611", "1234567"}
    assert list(readings("17 and 4")) == []


@given(some.text(some.sampled_from("0123456789 +-._/()ab\n"), max_size=30))
def test_ascii_text_is_blanked_like_any_other(text: str) -> None:
    """ASCII text has a fast path; a letter of another script at the beginning forces the slow path."""
    assert "é" + blank_numbers(text) == blank_numbers("é" + text)


EDGES = [
    # Seven digits at the end identify a number, six do not.
    ("1234567", "#"),
    ("234567", "234567"),
    ("x1234567", "x#"),
    ("123-4567", "#"),
    ("1\u00b234567", "#"),
    ("lead-234567", "lead-234567"),
    ("31234567", "#"),
    # The number itself, with or without the plus.
    ("393331234567", "#"),
    ("+393331234567", "+#"),
    ("393331234567-393331234567", "#-#"),
    # A remainder of six characters cannot contain another number; one of seven can.
    ("lead-393331234567", "lead-#"),
    ("12345393331234567", "12345#"),
    ("123456-393331234567", "#"),
    ("123456393331234567", "#"),
    ("leads-393331234567", "leads-#"),
    ("call 393331234567 for 3287654321", "call # for #"),
    # Separated digits are all blanked if together they reveal the number.
    ("1a2b3c4d5e6f7", "#"),
    ("a1b2c3d4e5f6", "a1b2c3d4e5f6"),
    ("393331234567 a1b2c3d4e5f6g7", "#"),
]


@pytest.mark.parametrize(("text", "left"), EDGES)
def test_an_id_that_contains_the_number_is_blanked(text: str, left: str) -> None:
    assert without(text, NUMBER) == left


@pytest.mark.parametrize("number", ["", "+"])
def test_without_a_number_nothing_is_removed(number: str) -> None:
    assert without("call 3331234567", number) == "call 3331234567"


UNREADABLE = [
    # Any seven digits of the number in a row, the first and the last of them too.
    ("x-0612345", "x-#"),
    ("x-5678901", "x-#"),
    ("x-061234", "x-061234"),
    ("x-678901", "x-678901"),
    ("x-0612346", "x-0612346"),
    ("0a6b1c2d3e4f5", "#"),
    ("0612345 and 9a9b9c9d9e9", "# and 9a9b9c9d9e9"),
    ("0612345 and 9a9b9c9d9e9f9", "#"),
]


@pytest.mark.parametrize(("text", "left"), UNREADABLE)
def test_seven_digits_of_an_unreadable_number_are_blanked(text: str, left: str) -> None:
    assert without_raw(text, "06 1234 5678 901 ext.") == left


@pytest.mark.parametrize("raw", ["", "anonymous", "061234"])
def test_fewer_than_seven_digits_are_kept(raw: str) -> None:
    assert without_raw("id 061234 5", raw) == "id 061234 5"


@pytest.mark.parametrize(
    ("text", "left"),
    [("1234567", "[x]"), ("234567", "234567"), ("1a2b3c4d5e6f7", "1a2b3c4d5e6f7"), ("1----234567", "[x]")],
)
def test_only_the_number_itself_is_replaced(text: str, left: str) -> None:
    assert taken_out(text, NUMBER, lambda _: "[x]") == left
