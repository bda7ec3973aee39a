"""HEIF pictures (``.heic``), which FFmpeg reads: Pillow does not."""

from __future__ import annotations

import gc
from pathlib import Path

from mafsar.errors import VideoError
from mafsar.video.container import open_video
from mafsar.video.decoder import decode_packet, decoder_of
from mafsar.video.picture import Picture, picture_of


def read_heif(path: Path, short_side: int | None = None) -> Picture:
    """Reads the picture of a HEIF file, upright.

    Args:
        path: The file.
        short_side: As for `picture_of`.

    Raises:
        VideoError: It cannot be read.
    """
    with open_video(path) as (container, stream):
        context = decoder_of(stream).context
        context.thread_count = 1
        for packet in container.demux(stream):
            frames = decode_packet(context, packet if packet.size else None)
            if frames:
                picture = picture_of(frames[0], short_side=short_side)
                break
        else:
            raise VideoError(f"{path}: its picture cannot be decoded; convert it to JPEG")
    del frames, packet, context, container, stream
    # PyAV's containers and streams hold each other, and with them the decoder's frames.
    gc.collect()
    return picture
