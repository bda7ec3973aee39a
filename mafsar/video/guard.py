"""One clip that cannot be read is that clip's error, never the end of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mafsar.errors import MafsarError, VideoError


@contextmanager
def clip_errors(path: Path | str) -> Iterator[None]:
    """Turns any unforeseen exception inside into a `VideoError` that names the clip.

    Decoders, PyAV and Pillow raise exceptions of many kinds on unusual files.
    """
    try:
        yield
    except MafsarError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise VideoError(
            f"{path}: cannot be read ({type(error).__name__}: {reason}); convert it to H.264 in MP4"
        ) from error
