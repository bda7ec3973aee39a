"""Did-you-mean: what people type by habit from other tools, and what it is called here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from mafsar.files import exists

# Verbs of ultralytics, timm, open_clip scripts and plain guesses → what to type instead.
VERBS = {
    "predict": "match",
    "classify": "match",
    "infer": "match",
    "inference": "match",
    "recognize": "match",
    "recognise": "match",
    "query": "match",
    "run": "match",
    "val": "eval",
    "validate": "eval",
    "evaluate": "eval",
    "test": "eval",
    "fit": "train",
    "finetune": "train",
    "tensorrt": "export --engine trt",
    "trt": "export --engine trt",
    "engine": "export --engine trt",
    "onnx": "export --engine onnx",
    "convert": "export",
    "compile": "export",
    "benchmark": "bench",
    "profile": "bench",
    "track": "watch",
    "stream": "watch",
    "live": "watch",
    "detect": "watch",
    "camera": "watch",
    "capture": "record",
    "enrol": "enroll",
    "add": "enroll --add BANK",
    "register": "enroll",
    "archive": "index",
    "find": "search",
    "grep": "search",
    "retrieve": "search",
    "banks": "bank list",
    "list": "bank list",
    "merge": "bank merge",
    "remove": "bank remove",
    "clear": "cache clear",
    "render": "synth",
    "generate": "synth",
    "synthesize": "synth",
    "dataset": "data check",
    "checks": "doctor",
    "check": "doctor",
    "env": "doctor",
    "show": "info",
    "describe": "info",
    "models": "info tiny",
    "version": "--version",
    "help": "--help",
}

# Values of --engine, --device, --precision and others under their names elsewhere.
VALUES = {
    "tensorrt": "trt",
    "engine": "trt",
    "onnxruntime": "onnx",
    "ort": "onnx",
    "pytorch": "torch",
    "pt": "torch",
    "gpu": "cuda",
    "half": "fp16",
    "float16": "fp16",
    "float32": "fp32",
    "full": "fp32",
    "none": "off",
    "true": "on",
    "false": "off",
    "yes": "on",
    "no": "off",
    "validation": "val",
    "bi-mhm": "bimhm",
    "cosine": "mean",
    "letterbox": "pad",
}

# Keys of `key=value` command lines and options of other tools → the flag here.
KEYS = {
    "format": "--engine",
    "backend": "--engine",
    "runtime": "--engine",
    "source": "QUERY",
    "support": "SUPPORT",
    "weights": "--model",
    "checkpoint": "--model",
    "half": "--precision fp16",
    "fp16": "--precision fp16",
    "int8": "--precision int8",
    "dtype": "--precision",
    "conf": "--threshold",
    "save": "--save-video",
    "save-vid": "--save-video",
    "top-k": "--topk",
    "output": "--out",
    "project": "--out",
    "name": "--out",
    "exist-ok": "--overwrite",
    "force": "--overwrite",
    "yes": "--overwrite",
    "imgsz": "a property of the model",
    "ways": "--way",
    "shots": "--shot",
    "n-way": "--way",
    "k-shot": "--shot",
    "split-file": "--split",
    "lambda": "a property of the model",
}

_PAIR = re.compile(r"^([A-Za-z][A-Za-z0-9_-]*)=(.*)$")


def suggest_verb(word: str, verbs: Sequence[str]) -> str | None:
    """What to type instead of the unknown verb `word`, or None."""
    pair = _PAIR.match(word)
    if pair:
        word = pair.group(2)
        if word in verbs:
            return word
    word = word.lower().replace("_", "-")
    known = VERBS.get(word)
    if known and (known.startswith("--") or known.split()[0] in verbs):
        return known
    habits = [habit for habit, meant in VERBS.items() if meant.split()[0] in verbs]
    close = difflib.get_close_matches(word, [*verbs, *habits], n=1, cutoff=0.7)
    if not close:
        return None
    return close[0] if close[0] in verbs else VERBS[close[0]]


def suggest_value(value: str, choices: Sequence[str]) -> str | None:
    """The choice that `value` probably means, or None."""
    known = VALUES.get(value.lower())
    if known in choices:
        return known
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.6)
    return close[0] if close else None


def suggest_option(option: str, options: Sequence[str]) -> str | None:
    """The flag that the unknown `option` (with its dashes) probably means, or None."""
    key = option.lstrip("-").replace("_", "-")
    if f"--{key}" in options:
        return f"--{key}"
    known = KEYS.get(key.lower())
    if known and (not known.startswith("--") or known.split()[0] in options):
        return known
    close = difflib.get_close_matches(f"--{key}", options, n=1, cutoff=0.7)
    return close[0] if close else None


def pair_as_flag(word: str, options: Sequence[str]) -> str | None:
    """The flag form of a ``key=value`` word, or None if it is not one (``NAME=SOURCE`` is legal).

    Args:
        word: One positional argument.
        options: The command's long flags.
    """
    pair = _PAIR.match(word)
    if not pair:
        return None
    key, value = pair.groups()
    if exists(Path(value)) or exists(Path(word)):
        return None
    flag = suggest_option(f"--{key}", options) if _is_key(key, options) else None
    if flag is None:
        return None
    if not flag.startswith("--"):
        return value if flag.isupper() else None
    return flag if " " in flag else f"{flag} {VALUES.get(value.lower(), value)}".rstrip()


def _is_key(key: str, options: Sequence[str]) -> bool:
    dashed = key.lower().replace("_", "-")
    return dashed in KEYS or f"--{dashed}" in options
