"""From texts to token ids; texts are cleaned as CLIP's tokenizer does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mafsar.errors import InputError
from mafsar.runtime.engines.bundle import TokenizerSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer as _Tokenizer


class Tokenizer:
    """A bundle's tokenizer.

    Raises:
        InputError: The file cannot be read.
    """

    def __init__(self, spec: TokenizerSpec) -> None:
        from tokenizers import Tokenizer as Library

        self.spec = spec
        try:
            self._library: _Tokenizer = Library.from_file(str(spec.path))
        except Exception as error:  # the library raises bare Exception
            raise InputError(
                f"{spec.path}: not a tokenizer of the tokenizers library ({error}); export the "
                "bundle again"
            ) from error
        # Texts are cut and padded here: a cut text keeps its end token, as in CLIP.
        self._library.no_truncation()
        self._library.no_padding()

    def encode(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids, (n, context_length), padded with 0; a text that is cut keeps its end token."""
        length = self.spec.context_length
        tokens = np.zeros((len(texts), length), np.int64)
        for row, text in enumerate(texts):
            cleaned = clean(text) if self.spec.cleaning == "clip" else text
            ids = self._library.encode(cleaned).ids
            if len(ids) > length:
                ids = [*ids[: length - 1], ids[-1]]
            tokens[row, : len(ids)] = ids
        return tokens


def clean(text: str) -> str:
    """Fixes broken Unicode, decodes HTML entities twice, collapses white space, lowers the case."""
    import ftfy

    text = ftfy.fix_text(text)
    import html  # a match without text has no use for its tables

    text = html.unescape(html.unescape(text))
    return " ".join(text.split()).lower()
