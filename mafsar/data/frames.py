"""Frames of a clip, decoded or from a store, and the crops of training and testing.

Training (docs/data.md): short side 256/224·S, one random S×S crop per clip, the same for all its
frames, and mirroring if the data set allows it. Testing: the centre crop of `mafsar.video.load_clip`.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mafsar.data.labelled import LabelledClip
from mafsar.data.parallel import in_order
from mafsar.errors import InputError, MissingError
from mafsar.video import Clip, Geometry, load_clip, load_raw_clip
from mafsar.video.picture import Picture
from mafsar.video.preprocess import resize, short_side_size, to_square
from mafsar.video.sampling import segment_times
from mafsar.video.still import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

    from mafsar.data.catalogue import Catalogue
    from mafsar.data.store import Store

SHORT_SIDE_SHARE = 256 / 224
"""Short side before the training crop, in units of the crop's side."""

_WHOLE = Geometry()


class FrameSource(Protocol):
    """Gives the T frames of a clip, one from each of T equal segments.

    Attributes:
        repairs: What was repaired in reading the clips so far, sentences by the clip's name.
    """

    repairs: dict[str, tuple[str, ...]]

    def training(
        self, clip: LabelledClip, *, frames: int, short_side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """uint8 RGB, (T, H, W, 3), min(H, W) = ``short_side``, each at a random moment of its segment."""
        ...

    def testing(self, clip: LabelledClip, *, frames: int, size: int) -> np.ndarray:
        """uint8 RGB, (T, S, S, 3), at the middles of the segments, centre crop."""
        ...


class DecodedFrames:
    """Decodes the clips themselves, at each call."""

    def __init__(self, ignore_clock: float | None = None) -> None:
        """Reads nothing yet.

        Args:
            ignore_clock: Frames per second that replace the timestamps of video files.
        """
        self.ignore_clock = ignore_clock
        self.repairs: dict[str, tuple[str, ...]] = {}

    def training(
        self, clip: LabelledClip, *, frames: int, short_side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See `FrameSource`; every moment of a segment is equally likely."""
        raw = load_raw_clip(
            _path(clip),
            frames=frames,
            short_side=short_side,
            start=clip.start,
            end=clip.end,
            rng=rng,
            threads=1,
            ignore_clock=self.ignore_clock,
        )
        self._note(clip, raw.repairs)
        return raw.frames

    def testing(self, clip: LabelledClip, *, frames: int, size: int) -> np.ndarray:
        """See `FrameSource`; byte for byte the frames of matching."""
        loaded = load_clip(
            _path(clip),
            frames=frames,
            size=size,
            start=clip.start,
            end=clip.end,
            threads=1,
            ignore_clock=self.ignore_clock,
        )
        self._note(clip, loaded.repairs)
        return loaded.pixels

    def _note(self, clip: LabelledClip, repairs: tuple[str, ...]) -> None:
        if repairs:
            self.repairs[clip.name] = repairs


class StoredFrames:
    """Takes frames from a packed data set; random moments are among the F that it keeps."""

    def __init__(self, store: Store) -> None:
        """Takes an opened store."""
        self.store = store
        self.repairs: dict[str, tuple[str, ...]] = {}  # said when it was packed

    def training(
        self, clip: LabelledClip, *, frames: int, short_side: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See `FrameSource`; the moments kept of a segment are equally likely."""
        jpegs = self.store.read(clip, self._segments(segment_times(1.0, frames, rng)))
        return self._each(clip, jpegs, lambda jpeg: _decode_short_side(jpeg, short_side))

    def testing(self, clip: LabelledClip, *, frames: int, size: int) -> np.ndarray:
        """See `FrameSource`; the frames of `DecodedFrames` if F is an odd multiple of T."""
        jpegs = self.store.read(clip, self._segments(segment_times(1.0, frames)))
        return self._each(
            clip, jpegs, lambda jpeg: to_square(Picture.of(_decode(jpeg)), size, _WHOLE)
        )

    def _segments(self, moments: np.ndarray) -> list[int]:
        """The kept segments that contain these moments, which are in [0, 1)."""
        kept = self.store.settings.frames
        segments: list[int] = np.minimum((moments * kept).astype(int), kept - 1).tolist()
        return segments

    def _each(
        self, clip: LabelledClip, jpegs: Sequence[bytes], finish: Callable[[bytes], np.ndarray]
    ) -> np.ndarray:
        """Decodes each frame once, even if it repeats.

        Raises:
            InputError: A frame is not a JPEG that can be read, or has another size than the others.
        """
        try:
            done: list[np.ndarray] = []
            for number, jpeg in enumerate(jpegs):
                again = number > 0 and jpeg is jpegs[number - 1]
                done.append(done[-1] if again else finish(jpeg))
            return np.stack(done)
        except (OSError, ValueError, SyntaxError) as error:
            raise InputError(
                f"{self.store.path}: a frame of {clip.name} is damaged ({error}); pack the data "
                "again"
            ) from error


def frames_of(catalogue: Catalogue, ignore_clock: float | None = None) -> FrameSource:
    """The source of a catalogue's frames: its store if it is packed, else its clips.

    Args:
        catalogue: The data set.
        ignore_clock: As for `DecodedFrames`.

    Raises:
        InputError: A clock is given for a packed data set.
    """
    from mafsar.data.store import Store, is_store, refuse_clock

    if is_store(catalogue.root):
        refuse_clock(catalogue.root, ignore_clock)
        return StoredFrames(Store(catalogue.root))
    return DecodedFrames(ignore_clock)


def training_crop(
    pixels: np.ndarray, size: int, rng: np.random.Generator, *, flip: bool
) -> np.ndarray:
    """Cuts one random square out of a clip and mirrors the clip with probability 1/2.

    Args:
        pixels: uint8 RGB, (T, H, W, 3), H and W ≥ ``size``.
        size: S, pixels.
        rng: Draws top, left and, with ``flip``, the mirror, in this order.
        flip: Whether clips may be mirrored.

    Returns:
        uint8 RGB, (T, S, S, 3): the same square and mirroring for all frames.
    """
    height, width = pixels.shape[1:3]
    top = int(rng.random() * (height - size + 1))
    left = int(rng.random() * (width - size + 1))
    crop = pixels[:, top : top + size, left : left + size]
    if flip and rng.random() < 0.5:
        crop = crop[:, :, ::-1]
    return np.ascontiguousarray(crop)


def packed_hashes(store: Store, clips: Sequence[LabelledClip], workers: int) -> list[str]:
    """Hash of the kept frames of each clip; copies under other names have the same hash."""

    def digest(clip: LabelledClip) -> str:
        found = hashlib.sha256(b"packed frames\n")
        for jpeg in store.read(clip, range(store.settings.frames)):
            found.update(len(jpeg).to_bytes(8, "little") + jpeg)
        return found.hexdigest()

    return list(in_order(digest, clips, workers=max(1, workers)))


def packed_clips(
    store: Store, clips: Sequence[LabelledClip], *, frames: int, size: int, workers: int
) -> Iterator[Clip]:
    """Clips of a packed data set as a model takes them, in order; no video is decoded.

    Args:
        store: Holds them.
        clips: Of the store's catalogue.
        frames: T.
        size: S, pixels.
        workers: Threads that decode the JPEGs.

    Raises:
        MissingError: A clip is not in the store.
    """
    source = StoredFrames(store)

    def load(clip: LabelledClip) -> Clip:
        began = time.perf_counter()
        pixels = source.testing(clip, frames=frames, size=size)
        duration, fps = store.duration(clip)
        return Clip(
            pixels=pixels,
            times_seconds=segment_times(duration, frames),
            duration_seconds=duration,
            fps=fps,
            decode_seconds=time.perf_counter() - began,
            preprocess_seconds=0.0,
        )

    yield from in_order(load, clips, workers=max(1, workers))


def _path(clip: LabelledClip) -> Path:
    if clip.path is None:
        raise MissingError(f"{clip.name}: is missing; mafsar data check lists all missing clips")
    return clip.path


def _opened(jpeg: bytes) -> Image.Image:
    """The picture, of which only the header is read; no other format is tried.

    Raises:
        InputError: It is not RGB, or has more pixels than are read at all.
    """
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(jpeg), formats=("JPEG",))
    except Image.DecompressionBombError as error:
        raise InputError(f"{error}") from error
    if image.mode != "RGB" or image.width * image.height > MAX_PIXELS:
        raise InputError(f"{image.width}x{image.height} pixels, {image.mode}")
    return image


def _decode(jpeg: bytes) -> np.ndarray:
    with _opened(jpeg) as image:
        return np.asarray(image)


def _decode_short_side(jpeg: bytes, short_side: int) -> np.ndarray:
    """Decodes to a short side; JPEG decodes at half or a quarter of the size in less time."""
    with _opened(jpeg) as image:
        width, height = short_side_size(*image.size, short_side)
        image.draft("RGB", (width, height))
        pixels = np.asarray(image)
    if pixels.shape[:2] == (height, width):
        return pixels
    return resize(Picture.of(pixels), width, height)
