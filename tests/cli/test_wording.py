"""The command line says the library's arguments and calls as its own flags and verbs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from mafsar.cli.app import VERBS, build_app
from mafsar.cli.wording import worded
from mafsar.errors import ANY, InputError, Placeholder, call, option

ROOT = Path(__file__).parents[2]
# They describe frames in memory, which the command line never has.
PYTHON_ONLY = {"evidence", "fps", "times"}


def uses(function: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call of `mafsar.errors.option` or `call`, with its place."""
    for path in sorted([*(ROOT / "mafsar").rglob("*.py"), *(ROOT / "export").rglob("*.py")]):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "mafsar.errors"
            for alias in node.names
            if alias.name == function
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in imported
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def words_of(verb: str) -> set[str]:
    """The flags of a verb and the words that stand for its positional arguments."""
    command = get_command(build_app())
    for word in verb.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    context = command.make_context(verb, [], resilient_parsing=True)
    words: set[str] = set()
    for param in command.get_params(context):
        words.update(param.opts, param.secondary_opts)
        if param.param_type_name == "argument":
            words.update((param.metavar or "").split("|"))
    return words


VERB_WORDS = {entry.words: words_of(entry.words) for entry in VERBS}


def value_of(node: ast.expr) -> object:
    """A literal; anything else stands for a value that is shown."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return "value"


def test_every_argument_in_a_message_is_a_flag_or_a_positional_of_some_verb() -> None:
    known = set().union(*VERB_WORDS.values())
    for place, node in uses("option"):
        given = [(ast.literal_eval(arg), ANY) for arg in node.args if isinstance(arg, ast.Constant)]
        given += [(word.arg, value_of(word.value)) for word in node.keywords if word.arg]
        for name, value in given:
            if name in PYTHON_ONLY:
                continue
            said = worded(InputError(option(**{name: value})))
            positional = worded(InputError(option(name)))
            assert said.split()[0] in known or positional in known, f"{place}: {said}"


def test_every_call_in_a_message_is_a_verb_with_its_flags() -> None:
    for place, node in uses("call"):
        function = ast.literal_eval(node.args[0])
        options = {word.arg: ANY for word in node.keywords if word.arg and word.arg != "saved_to"}
        words = worded(InputError(call(function, **options))).split()
        assert words.pop(0) == "mafsar"
        verb = words.pop(0)
        if verb not in VERB_WORDS:
            verb = f"{verb} {words.pop(0)}"
        assert verb in VERB_WORDS, f"{place}: {verb}"
        for word in words:
            assert word in VERB_WORDS[verb], f"{place}: {verb} has no {word}"


@pytest.mark.parametrize(
    ("part", "python", "shell"),
    [
        (option(text="on"), "text='on'", "--text on"),
        (option("threshold"), "threshold", "--threshold"),
        (option(overwrite=True), "overwrite=True", "--overwrite"),
        (option(cache=False), "cache=False", "--no-cache"),
        (option(images=False), "images=False", "--no-images"),
        (option(keep_query=True), "keep_query=True", "--keep-query"),
        (option(engine="trt", precision="fp16"), "engine='trt', precision='fp16'",
         "--engine trt --precision fp16"),
        (option("support"), "support", "SUPPORT"),
        (option("class_names", "clip_names"), "class_names, clip_names", "--class --clip"),
        (option(alpha=0.25), "alpha=0.25", "--alpha 0.25"),
        (option(add_to="a b.safetensors"), "add_to='a b.safetensors'", "--add 'a b.safetensors'"),
        (call("export_model", "x", engine="trt"), "mafsar.export_model('x', engine='trt')",
         "mafsar export x --engine trt"),
        (call("evaluate", "tiny", way=5), "mafsar.evaluate('tiny', way=5)",
         "mafsar eval tiny --way 5"),
        (call("enroll", Placeholder("support")), "mafsar.enroll(support)", "mafsar enroll SUPPORT"),
        (call("merge_banks", "a", "b"), "mafsar.merge_banks('a', 'b')", "mafsar bank merge a b"),
    ],
)  # fmt: skip
def test_both_languages(part: object, python: str, shell: str) -> None:
    problem = InputError("clip.mp4: ", part, " is wrong")
    assert str(problem) == f"clip.mp4: {python} is wrong"
    assert worded(problem) == f"clip.mp4: {shell} is wrong"
    outer = InputError("bank: ", problem)
    assert worded(outer) == f"bank: clip.mp4: {shell} is wrong"


def test_other_exceptions_are_said_as_they_are() -> None:
    assert worded(RuntimeError("--text on")) == "--text on"
