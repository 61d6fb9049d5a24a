"""The moving picture of the README: real commands on a pseudo-terminal, asked of a gate that `make run` started.

`make pictures` runs it and writes `docs/quick-start.svg`. The picture stays as it is if the commands still show the same
words, so that a new run changes only what a reader would see differently.
"""

import asyncio
import re
import tempfile
from calendar import month_name
from collections.abc import Sequence
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.support.paths import ROOT
from tests.support.terminal import copy_clone, on_a_terminal

PICTURE: Final = ROOT / "docs/quick-start.svg"
ROWS, COLUMNS = 20, 70
# Each scene: a comment, a command, its exit status, and the seconds for which its output stays.
SCENES: Final = (
    ("The dialer asks before it dials.", "dialgate check --to +390612345678 --from +390844123456 --campaign acme-fibre", 0, 3.0),
    ("This number is enrolled with the registry.", "dialgate check --to +390612345679 --from +390844123456 --campaign acme-fibre", 1, 5.0),
    ("A person asks why.", 'dialgate why +390612345679 --purpose "a letter"', 0, 6.0),
    ("Was a record changed?", "dialgate log verify", 0, 5.0),
)  # fmt: skip
_TYPED: Final = 0.12  # seconds for each word of a command
_VARIABLE: Final = re.compile(rf"\b[0-9a-f]{{8,}}\b|\d+|{'|'.join(month_name[1:])}")
_FRAME: Final = (
    '<g id="{unique_id}" class="frame"><style>{styles}</style>{backgrounds}<g class="text">{matrix}</g></g>'
)


class Frame(NamedTuple):
    """The terminal's content, with ANSI colours, and the seconds for which it is shown."""

    text: str
    seconds: float


async def record(folder: Path) -> list[Frame]:
    """Run the commands in a copied clone whose gate is ready. Raises `AssertionError` if one ends with another status."""
    frames: list[Frame] = []
    for comment, command, status, seconds in SCENES:
        typed = f"\x1b[2m# {comment}\x1b[0m\n$ "
        for part in re.findall(r"\S+\s*", _folded(command)):
            typed += part
            frames.append(Frame(typed, _TYPED))
        # A login shell has both: the programs of the clone, and a terminal with colours.
        line = f"PATH=$PWD/.venv/bin:$PATH TERM=xterm-256color; export PATH TERM; {command}"
        async with on_a_terminal(["sh", "-c", line], folder, (ROWS, COLUMNS)) as terminal:
            assert await terminal.wait_for_end() == status, terminal.shown
            frames.append(Frame(f"{typed}\n{terminal.shown}", seconds))
    return frames


def _folded(command: str) -> str:
    """Return the command as it is typed on a narrow terminal."""
    return command if len(command) < COLUMNS - 2 else command.replace(" --from", " \\\n    --from")


def draw(frames: Sequence[Frame]) -> str:
    """Return an animated SVG. Without animation it shows the denial."""
    total, at = sum(frame.seconds for frame in frames), 0.0
    shapes, times = [], []
    for place, frame in enumerate(frames):
        shapes.append(_shape(frame, f"f{place}"))
        begin, end = (100 * instant / total for instant in (at, at + frame.seconds))
        # Rounding must leave no instant without a frame.
        hidden = "" if place == 0 else "0%{visibility:hidden}"
        times.append(
            f"@keyframes f{place}{{{hidden}{begin:.3f}%{{visibility:visible}}{end:.3f}%{{visibility:hidden}}}}"
            f"#f{place}{{animation:f{place} {total:.2f}s step-end infinite}}"
        )
        at += frame.seconds
    (still,) = [
        place
        for place, frame in enumerate(frames)
        if "registry.listed" in frame.text and "severity" in frame.text
    ]
    width, height = COLUMNS * 12.2 + 24, ROWS * 24.4 + 60
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img">
<title>A terminal: a call is allowed, a call is denied, the denial is explained, the log is verified</title>
<style>.text{{font:20px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}
.frame{{visibility:hidden}}#f{still}{{visibility:visible}}
@media not (prefers-reduced-motion: reduce){{{"".join(times)}}}</style>
<rect width="100%" height="100%" rx="8" fill="#1e1f24"/>
<circle cx="24" cy="22" r="7" fill="#ff5f57"/><circle cx="46" cy="22" r="7" fill="#febc2e"/><circle cx="68" cy="22" r="7" fill="#28c840"/>
<g transform="translate(12 44)">
{"".join(shapes)}
</g>
</svg>
"""


def _shape(frame: Frame, name: str) -> str:
    console = Console(
        record=True,
        width=COLUMNS,
        file=StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    # Of a progress bar that was drawn several times, only the last state is left.
    shown = re.sub(r"[^\n]*\x1b\[2K", "", frame.text.replace("\r\n", "\n"))
    console.print(Text.from_ansi(shown))
    drawn = console.export_svg(theme=MONOKAI, unique_id=name, code_format=_FRAME)
    return re.sub(r' clip-path="[^"]*"', "", drawn)


def words(picture: str) -> set[str]:
    """Return the words that the picture shows, without what each run has anew. Where lines break does not matter."""
    texts = (unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", picture))
    return {word for text in texts for word in re.findall(r"[\w#$+.,:;/()\"-]+", _VARIABLE.sub("#", text))}


async def recorded() -> str:
    """Start the gate of a fresh clone with `make run`, and return the picture of the commands."""
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        port = copy_clone(clone)
        async with on_a_terminal(["make", "run", "--old-file=.venv/installed"], clone) as terminal:
            await terminal.until(rf"ready .*127\.0\.0\.1:{port}|\"event\":\"ready\"")
            return draw(await record(clone))


def write() -> None:
    picture = asyncio.run(recorded())
    if not PICTURE.exists() or words(picture) != words(PICTURE.read_text("utf-8")):
        PICTURE.write_text(picture, "utf-8")


if __name__ == "__main__":
    write()
