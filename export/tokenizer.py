"""CLIP's byte pairs as a file of the `tokenizers` library, so that a device needs no open_clip."""

from __future__ import annotations

from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing

from mafsar.errors import UnavailableError

# How CLIP cuts a cleaned, lower-case text into words before its byte pairs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_START, _END = "<start_of_text>", "<end_of_text>"


def write_clip_tokenizer(path: Path) -> Path:
    """Writes open_clip's tokenizer as `tokenizer.json`.

    Texts must be cleaned before it as CLIP does (ftfy, HTML unescape, white space, lower case):
    the file alone cuts many accented words otherwise. Ids are not padded; the end token has the
    highest id, which the text tower looks for.

    Args:
        path: The file to write.

    Returns:
        `path`.

    Raises:
        UnavailableError: open_clip is not installed.
    """
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise UnavailableError(
            "open_clip is not installed, and CLIP's vocabulary is in it; pip install 'mafsar[train]'"
        ) from error
    clip = SimpleTokenizer()
    merges = sorted(clip.bpe_ranks, key=clip.bpe_ranks.__getitem__)
    library = Tokenizer(
        BPE(dict(clip.encoder), [(a, b) for a, b in merges], end_of_word_suffix="</w>")
    )
    library.add_special_tokens([AddedToken(word, normalized=False) for word in (_START, _END)])
    library.pre_tokenizer = Sequence(
        [
            Split(Regex(_WORDS), "removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.post_processor = TemplateProcessing(
        single=f"{_START} $A {_END}",
        special_tokens=[(word, clip.encoder[word]) for word in (_START, _END)],
    )
    library.save(str(path))
    return path
