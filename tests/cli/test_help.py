"""Help, version, completion; how fast and how light the start is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import mafsar
from mafsar.cli.app import build_app

runner = CliRunner()
app = build_app()

VERBS = [
    "match", "enroll", "bank", "bank list", "bank remove", "bank merge", "eval", "info", "doctor",
    "cache", "cache info", "cache clear", "train", "export", "watch", "record", "studio", "index",
    "search", "data",
    "data check", "data pack", "bench", "synth",
]  # fmt: skip

COMMON = "--json --verbose -v --quiet -q --help"
ENCODER = "--engine --device --precision --text --no-cache"
PICTURE = "--roi --fit --rotate --hflip"
OUTPUT = "--out -o --overwrite -y"
FLAGS = {
    "match": f"{COMMON} {ENCODER} {PICTURE} {OUTPUT} --model --topk --threshold --far --alpha --metric"
    " --batch --csv --save-video --plot --report --keep-query --ray",
    "enroll": f"{COMMON} {ENCODER} {PICTURE} {OUTPUT} --model --add --none --far --report --no-images",
    "bank list": f"{COMMON} {OUTPUT} --class --clip",
    "bank remove": f"{COMMON} {OUTPUT} --class --clip",
    "bank merge": f"{COMMON} {OUTPUT} --class --clip",
    "eval": f"{COMMON} {ENCODER} {OUTPUT} --data --split --dataset --root --lists --part --way"
    " --shot --query --episodes --seed --episodes-file --metric --confusion --ray",
    "info": f"{COMMON} {OUTPUT}",
    "doctor": f"{COMMON} {OUTPUT} --bisect",
    "cache info": f"{COMMON} {OUTPUT}",
    "cache clear": f"{COMMON} {OUTPUT}",
    "train": f"{OUTPUT} -v -q --model --dataset --root --lists --data --split --config --episodes"
    " --way --shot --query --seed --resume --dry-run",
    "export": f"{COMMON} {OUTPUT} --engine --precision --batch --frames --calib --data"
    " --compute-capability --workspace --opset --min-cosine --no-verify",
    "data check": f"{COMMON} --dataset --root --lists --data --split",
    "data pack": f"{COMMON} {OUTPUT} --dataset --root --lists --data --split",
    "watch": f"{COMMON} {PICTURE} --engine --device --precision --window --stride --threshold"
    " --gap --min-duration --jsonl --csv --save-video --show --serve --max-fps --heartbeat"
    f" --webhook --mqtt --model {OUTPUT} --skip-bad --frames-pattern",
    "record": f"{COMMON} {OUTPUT} --seconds --count --delay --trim",
    "studio": "-v -q --port --model --engine --device --precision --text --no-cache"
    " --frames-pattern",
    "index": f"{COMMON} {PICTURE} {OUTPUT} --engine --device --precision --no-cache --model --bank"
    " --window --stride --workers --ray --resume --skip-bad --ignore-clock",
    "search": f"{COMMON} {OUTPUT} --topk --csv --report --class --threshold --far --text --metric"
    " --views --alpha --events",
    "bench": f"{COMMON} {OUTPUT} --engine --device --precision --batch --runs --seconds --clip --markdown",
    "synth": f"{COMMON} {OUTPUT} --classes --clips --size --seed --set --seconds --fps --photos"
    " --workers",
}


def _wide_help(words: list[str]) -> str:
    result = runner.invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_two_examples(verb: str) -> None:
    text = _wide_help(verb.split())
    assert "Examples:" in text
    examples = [
        line.strip()
        for line in text[text.rindex("Examples:") :].splitlines()
        if line.strip().startswith("mafsar ")
    ]
    assert len(examples) == 2
    assert all(line.startswith(f"mafsar {verb}") for line in examples)


@pytest.mark.parametrize("verb", FLAGS)
def test_every_documented_flag_is_known(verb: str) -> None:
    from typer.main import get_command

    command = get_command(app)
    for word in verb.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    context = command.make_context(verb, [], resilient_parsing=True)
    known = {flag for param in command.get_params(context) for flag in param.opts}
    assert set(FLAGS[verb].split()) <= known


def _every_command() -> list[tuple[str, object]]:
    from typer.main import get_command

    whole = get_command(app)
    return [("mafsar", whole), *_below("mafsar", whole)]


def _below(path: str, command: object) -> list[tuple[str, object]]:
    found = []
    for name, child in getattr(command, "commands", {}).items():
        found += [(f"{path} {name}", child), *_below(f"{path} {name}", child)]
    return found


def test_no_word_of_the_help_is_taken_for_markup() -> None:
    """Rich reads ``[5]`` and ``[train]`` as styles and drops them."""
    from rich.text import Text

    for path, command in _every_command():
        texts = [command.help or ""]  # type: ignore[attr-defined]
        texts += [getattr(param, "help", None) or "" for param in command.params]  # type: ignore[attr-defined]
        for text in texts:
            assert Text.from_markup(text).plain == text, f"{path}: {text}"


@pytest.mark.parametrize("columns", [80, 120])
def test_help_pages_fit_and_show_no_raw_types(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", columns)
    for path, _ in _every_command():
        text = runner.invoke(app, [*path.split()[1:], "--help"]).stdout
        assert max(map(len, text.splitlines())) <= columns, path
        for slip in ("[[", "]]", "<", "{", " .", "..."):
            rest = (
                text.replace("QUERY...", "")
                .replace("BANK...", "")
                .replace("SOURCE...", "")
                .replace("ARGS]...", "")
            )
            rest = rest.replace("key=value]...", "")
            assert slip not in rest, f"{path}: {slip}"


def test_every_option_has_help() -> None:
    for path, command in _every_command():
        for param in command.params:  # type: ignore[attr-defined]
            assert getattr(param, "help", None), f"{path}: {param.name}"


@pytest.mark.parametrize("words", [[], ["bank"], ["cache"], ["data"]])
def test_without_a_verb_the_help_is_shown_and_usage_is_wrong(words: list[str]) -> None:
    result = runner.invoke(app, words)
    assert result.exit_code == 2
    assert "Usage: " in result.output
    assert "Commands" in result.output


def test_version() -> None:
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"mafsar {mafsar.__version__}\n"


def test_no_verb_shows_help_and_is_wrong_usage() -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 2
    assert "match" in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from mafsar.cli.app import build_app\n"
        "try:\n    build_app()(['--help'], prog_name='mafsar')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'onnxruntime', 'av', 'numpy', 'PIL', 'open_clip', 'tokenizers'}\n"
        "loaded = heavy & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: mafsar" in done.stdout


def test_python_m_mafsar_in_a_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mafsar", "prdict"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "error: mafsar has no command 'prdict'; did you mean mafsar match?\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("mafsar mat", "match"),
        ("mafsar match --thre", "--threshold"),
        ("mafsar match s q --engine t", "trt"),
    ],
)
def test_shell_completion(words: str, offered: str) -> None:
    environment = os.environ | {
        "_MAFSAR_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "from mafsar.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert offered in done.stdout.split()


def test_building_one_verb_is_building_all_of_them() -> None:
    """`main` builds only the verb that it runs; that one is the same as in the whole."""
    from typer.main import get_command

    whole = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in whole.items():
        alone = get_command(build_app(name)).commands  # type: ignore[attr-defined]
        assert list(alone) == [name]
        assert [param.opts for param in alone[name].params] == [p.opts for p in command.params]
