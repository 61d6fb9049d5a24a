"""Tests that an Italian page says the same as its English one: headings, tables, commands and links."""

import re
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# Each Italian page with its English one. The other pages are linked in either language.
PAIRS = {ROOT / "docs/README.it.md": ROOT / "README.md"} | {
    page: page.with_name(page.name.replace(".it.md", ".md")) for page in ROOT.glob("docs/*/*.it.md")
}


def outline(text: str) -> list[str]:
    """Return the kinds of a page's lines: headings by level, list items, rows of tables with their cells, and images."""
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    marks = re.findall(r"^(#+ |\d+\. |- |\|.*\||!\[)", prose, re.MULTILINE)
    return [re.sub(r"[^|]+", "", mark) if mark.startswith("|") else mark for mark in marks]


def code_blocks(text: str) -> list[str]:
    """Return the blocks of code without comments, and without the texts and the language that a command takes."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    texts = re.compile(
        r'^ *#.*\n|(?<=--purpose )".*?"|(?<=--reason )".*?"|(?<=--identified )".*?"|(?<=--language )\w+',
        re.MULTILINE,
    )
    return [texts.sub("", block) for block in blocks]


def inline_code(text: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", text))


def links(page: Path) -> list[Path | str]:
    """Return where the links of a page lead. A page that has an Italian one counts as that one."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    return [
        target
        if "://" in target
        else PAIRS.get(path := (page.parent / target.partition("#")[0]).resolve(), path)
        for target in targets
    ]


@pytest.mark.parametrize("italian", PAIRS, ids=lambda page: page.name)
def test_an_italian_page_says_the_same(italian: Path) -> None:
    english = PAIRS[italian]
    ours, theirs = italian.read_text("utf-8"), english.read_text("utf-8")
    assert outline(ours) == outline(theirs)
    assert code_blocks(ours) == code_blocks(theirs)
    assert inline_code(ours) >= inline_code(theirs)
    # Each page also links its translation.
    others = [
        [target for target in links(page) if target not in {italian, english}] for page in (italian, english)
    ]
    assert others[0] == others[1]
    assert english in links(italian)


def test_no_text_is_defined_twice() -> None:
    """In YAML the second one would silently replace the first."""
    files = [*ROOT.glob("dialgate/**/texts/*.yaml")]
    assert len(files) > 8
    for file in files:
        keys = re.findall(r"^(\S+):", file.read_text("utf-8"), re.MULTILINE)
        assert sorted(keys) == sorted(set(keys)), file
