"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz TARGET RUNS`.

Findings and corpus are stored in the folder FUZZ_CORPUS, by default .fuzz/.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["dialgate.interfaces", "dialgate.config.webhook_dialects", "tests.fuzz"]
):
    from tests.fuzz.targets import SEEDS, TARGETS, WORDS, Loop, shaped


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


async def main(name: str, runs: str) -> None:
    corpus = Path(os.environ.get("FUZZ_CORPUS", ".fuzz")) / name
    corpus.mkdir(parents=True, exist_ok=True)
    for at, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{at}").write_bytes(b"\0" + seed)
    words = corpus.with_suffix(".words")
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    options = [
        f"-dict={words}",
        f"-atheris_runs={runs}",
        "-max_len=512",
        "-timeout=5",
        "-rss_limit_mb=1024",
        f"-artifact_prefix={corpus}-",
    ]
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *options, str(corpus)], lambda data: target(shaped(name, data)))
    try:
        atheris.Fuzz()
    finally:
        signal.setitimer(
            signal.ITIMER_REAL, 0
        )  # libFuzzer's timer, which would kill the interpreter during exit


with asyncio.Runner(loop_factory=Loop) as runner:
    runner.run(main(*sys.argv[1:3]))
