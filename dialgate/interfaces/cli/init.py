"""`dialgate init`: a first configuration, built from prompts or options."""

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from dialgate.config.configuration import ConfigError
from dialgate.interfaces.cli.config import check
from dialgate.interfaces.cli.options import DEFAULT_CONFIG, AsJson, Failure, program_name, reporting
from dialgate.runtime.clock import wall_clock
from dialgate.runtime.terminal import MISUSE, show_json
from dialgate.tools import first_configuration
from dialgate.tools.first_commands import next_commands
from dialgate.tools.first_configuration import QUESTIONS, SetupDraft, SetupQuestion
from dialgate.tools.first_folder import create_folder

_VICIDIAL_ID = 8  # characters of a campaign's id
_BACK = "<"

app = typer.Typer()


def _init(
    *,
    folder: Annotated[
        Path, typer.Argument(file_okay=False, help="The folder to create.")
    ] = DEFAULT_CONFIG.parent,
    force: Annotated[
        bool,
        typer.Option("--force", help="If the folder has files, move them to a folder beside it."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not prompt, even on a terminal.")] = False,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Create the configuration of a new gate: settings, controller, law, registries, and the files for your dialer.

    On a terminal, the command asks for everything that no option specifies. You can change every answer before anything is
    written. Without a terminal, or with --yes or --json, the command does not prompt. If options are missing, it lists
    them and writes nothing. The result passes `dialgate config check`.

    dialgate init --name "Zeta Servizi S.r.l." --contact privacy@zeta.example --country IT --campaign zeta-insurance --purpose
    sale --sector insurance --call-type agent --caller-id +390844654321 --dialer asterisk
    """
    with reporting(as_json=as_json):
        _refuse_folder(folder, force=force)
        draft = SetupDraft(first_configuration.laws(), wall_clock(), _answers(options))
        if sys.stdin.isatty() and sys.stderr.isatty() and not (yes or as_json):
            _refuse_invalid(draft)
            _converse(draft)
        _refuse_missing(draft)
        warnings = _refuse_invalid(draft)
        try:
            keys, files = create_folder(draft, folder.resolve())
        except OSError as error:
            raise Failure("init.unwritable", f"{error.filename}: {error.strerror}") from None
    config = folder / DEFAULT_CONFIG.name
    commands = next_commands(draft, program_name(), config if config != DEFAULT_CONFIG else None)
    result = {
        "folder": str(folder),
        "files": files,
        "client": "dialer",
        "key": keys.dialer,
        "supervisor_key": keys.supervisor,
        "console": f"{first_configuration.url_of(draft)}/console",
        "warnings": warnings,
        "next": commands,
    }
    if as_json:
        show_json(result)
    else:
        _show(result)


def _option(question: SetupQuestion) -> inspect.Parameter:
    kind: Any = list[str] if question.of_campaign or question.name == "campaign" else str
    about = [question.text]
    if isinstance(question.default, str) and question.default and not question.stated:
        about.append(f"Default: {question.default}")
    if question.of_campaign:
        about.append("Once, or once for each campaign")
    return inspect.Parameter(
        question.name.replace("-", "_"),
        inspect.Parameter.KEYWORD_ONLY,
        default="" if kind is str else [],
        annotation=Annotated[
            kind, typer.Option(f"--{question.name}", metavar="TEXT", help=f"{'. '.join(about)}.")
        ],
    )


_parameters = [*inspect.signature(_init).parameters.values()][:-1]
_init.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [_parameters[0], *map(_option, QUESTIONS), *_parameters[1:]]
)
app.command("init")(_init)


def _answers(options: dict[str, Any]) -> dict[str, list[str]]:
    campaigns = ",".join(options["campaign"]).split(",")
    answers = {}
    for question in QUESTIONS:
        given = options[question.name.replace("-", "_")]
        values = given if question.of_campaign else [",".join(given) if isinstance(given, list) else given]
        if len(values) not in {0, 1, len(campaigns)}:
            text = f"{len(values)} values for {len(campaigns)} campaigns. Specify one value, or one for each campaign"
            raise Failure("init.invalid", text, field=f"--{question.name}", status=MISUSE)
        if any(values):
            answers[question.name] = values * len(campaigns) if len(values) == 1 else values
    return answers


def _refuse_folder(folder: Path, *, force: bool) -> None:
    if Path.cwd().is_relative_to(folder.resolve()):
        raise Failure(
            "init.exists",
            f"{folder} is the current folder or one of its parents. Choose another folder",
            field="folder",
        )
    if folder.exists() and any(folder.iterdir()) and not force:
        text = f"{folder} is not empty. Choose another folder, or use --force, which moves its files to a folder beside it"
        raise Failure("init.exists", text, field="folder")


def _refuse_missing(draft: SetupDraft) -> None:
    if problems := draft.problems():  # first, because which questions apply depends on the answers
        raise _invalid(problems)
    missing = {
        f"--{question.name}": ""
        for question, place in draft.unanswered()
        if question.stated or question.default_of(draft, place) is None
    }
    if missing:
        raise Failure("init.incomplete", f"missing options: {', '.join(missing)}", status=MISUSE)


def _refuse_invalid(draft: SetupDraft) -> list[str]:
    """Return the warnings of `dialgate config check`. Raises `Failure` with every problem of an invalid draft."""
    try:
        return _check(draft, with_tls=True)
    except ConfigError as error:
        raise _invalid(error.problems) from None


def _invalid(problems: Sequence[str]) -> Failure:
    lines = "\n".join(f"  {problem}" for problem in problems)
    return Failure("init.invalid", f"nothing was written:\n{lines}", status=MISUSE)


def _check(draft: SetupDraft, *, with_tls: bool) -> list[str]:
    """Check the draft as `dialgate config check` does, and return the warnings. Raises `ConfigError`.

    Also warn about campaign ids that the dialer does not support.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        first_configuration.write(draft, folder)
        _, warnings = check(
            folder / "dialgate.yaml", folder / "registries.yaml", draft.now, with_tls=with_tls
        )
        return warnings + [
            f"campaign {name}: VICIdial allows campaign ids of at most {_VICIDIAL_ID} characters, and the gate needs the same id in lower case. Choose a shorter id"
            for name in draft.parts("campaign")
            if draft.get("dialer") == "vicidial" and len(name) > _VICIDIAL_ID
        ]


def _converse(draft: SetupDraft) -> None:
    """Ask the unanswered questions, then let the user change answers until they confirm. Raises `Failure`."""
    _tell(
        f"Press Enter to accept the answer in brackets, or type {_BACK} to go back a question. You can change every answer"
        " before anything is written."
    )
    earlier: list[tuple[SetupQuestion, int]] = []
    while True:
        _ask_unanswered(draft, earlier)
        questions = list(draft.questions())
        for number, (question, place) in enumerate(questions, 1):
            _tell(f"{number:>3}  {_label(draft, question, place)}: {draft.get(question.name, place) or '-'}")
        reply = typer.prompt(
            "Write this? yes, no, or the number of an answer to change", "yes", err=True
        ).lower()
        if reply in {"y", "yes"}:
            return
        if reply in {"n", "no"}:
            raise Failure("init.cancelled", "nothing was written")
        if reply == _BACK and earlier:
            _ask_unanswered(draft, earlier, earlier.pop())
        if reply.isdecimal() and 0 < int(reply) <= len(questions):
            _ask(draft, *questions[int(reply) - 1])


def _ask_unanswered(
    draft: SetupDraft,
    earlier: list[tuple[SetupQuestion, int]],
    first: tuple[SetupQuestion, int] | None = None,
) -> None:
    """Ask `first` and all unanswered questions. `earlier` has those answered so far: the user can go back to them."""
    again = first
    while step := again or next(draft.unanswered(), None):
        match _ask(draft, *step):
            case "accepted":
                earlier.append(step)
                again = None
            case "rejected":
                again = step if draft.is_answered(*step) else None
            case "back":
                again = earlier.pop() if earlier else step


def _ask(draft: SetupDraft, question: SetupQuestion, place: int) -> Literal["accepted", "rejected", "back"]:
    """Ask one question. Reject an answer that makes the configuration invalid, and show the first problem."""
    given = draft.answers.get(question.name, [])[place:]
    default = given[0] if given else question.default_of(draft, place)
    choices = question.choices(draft)
    hint = ", ".join(choices) or (question.example and f"for example {question.example}")
    text = _label(draft, question, place) + (f" ({hint})" if hint else "")
    reply = typer.prompt(text, default or "", show_default=bool(default), err=True).strip()
    if reply == _BACK:
        return "back"
    if not reply and default is None:
        _tell("  This question needs an answer.")
        return "rejected"
    reply = {choice.lower(): choice for choice in choices}.get(reply.lower(), reply)
    before = draft.answers
    draft.answers = draft.with_answer(question.name, place, reply)
    try:
        # Until the file with the key is known, the certificate's own file is not expected to contain it.
        _check(draft, with_tls="tls-key" in draft.answers)
    except ConfigError as error:
        draft.answers = before
        if question.name == "tls-key":  # ask again for both
            draft.answers = {name: texts for name, texts in before.items() if not name.startswith("tls-")}
        # Further problems are mostly consequences. The file names the problem's place, but is not written yet.
        _tell(f"  {error.problems[0].partition('.yaml: ')[2] or error.problems[0]}")
        return "rejected"
    return "accepted"


def _label(draft: SetupDraft, question: SetupQuestion, place: int) -> str:
    return f"{draft.parts('campaign')[place]}: {question.text}" if question.of_campaign else question.text


def _tell(text: str) -> None:
    typer.echo(text, err=True)


def _show(result: dict[str, Any]) -> None:
    typer.echo(f"{result['folder']} contains {', '.join(result['files'])}.")
    if any(name.startswith("dialer/") for name in result["files"]):
        typer.echo(f"{result['folder']}/dialer/README.md says how to install the files beside it.")
    for warning in result["warnings"]:
        _tell(f"Warning: {warning}.")
    typer.echo(
        "\nThe keys of the clients `dialer` and `supervisor`. They are shown only once, because the gate stores only their hashes:\n\n"
        f"  export DIALGATE_KEY={result['key']}\n  supervisor: {result['supervisor_key']}\n\n"
        f"Console, once the gate runs: {result['console']}, with the supervisor's key.\n\nNext:\n"
    )
    for command in result["next"]:
        typer.echo(f"  {command}")
