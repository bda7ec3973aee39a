"""Writes CLIP's tokenizer as a file of the `tokenizers` library, so a device needs no open_clip."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing

from mafsar.errors import UnavailableError

# How CLIP splits a cleaned, lower-case text into words before byte-pair encoding.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<start_of_text>", "<end_of_text>"
_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2
CLIP_VOCABULARY = 49408


def write_clip_tokenizer(path: Path) -> Path:
    """Writes open_clip's tokenizer as `tokenizer.json`.

    Texts must first be cleaned as CLIP does (ftfy, HTML unescape, white space, lower case); without
    it many accented words are split differently. Ids are not padded. The end token has the highest
    id, by which the text tower finds it.

    Args:
        path: The file to write.

    Returns:
        `path`.

    Raises:
        UnavailableError: open_clip is not installed.
    """
    vocabulary, merges = _clip_vocabulary()
    library = Tokenizer(BPE(vocabulary, merges, end_of_word_suffix="</w>"))
    library.add_special_tokens([AddedToken(word, normalized=False) for word in (_START, _END)])
    library.pre_tokenizer = Sequence(
        [
            Split(Regex(_WORDS), "removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.post_processor = TemplateProcessing(
        single=f"{_START} $A {_END}",
        special_tokens=[(word, vocabulary[word]) for word in (_START, _END)],
    )
    library.save(str(path))
    return path


def _clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by token and the merges in order, from open_clip's own file."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise UnavailableError(
            "CLIP's vocabulary comes with open_clip, which is not installed; "
            "pip install 'mafsar[train]'"
        )
    file = Path(next(iter(spec.submodule_search_locations))) / _MERGES_FILE
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")
    merges = []
    for line in lines[1 : 1 + _MERGES]:  # the first line is a title
        left, _, right = line.partition(" ")
        merges.append((left, right))
    # Printable bytes represent themselves and come first; the others follow from U+0100 on.
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in printed]
    letters += [chr(0x100 + index) for index in range(256 - len(printed))]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["".join(pair) for pair in merges]
    tokens += [_START, _END]
    return {token: index for index, token in enumerate(tokens)}, merges
