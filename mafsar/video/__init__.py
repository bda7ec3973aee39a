"""Clips: from files, folders and arrays to the frames that a model takes, and back to video."""

from __future__ import annotations

from mafsar.video.array import (
    MemoryClip,
    clip_from_array,
    clip_source,
    is_clip_source,
    load_memory_clip,
)
from mafsar.video.clip import READING_RULES, Clip, RawClip, load_clip, load_raw_clip
from mafsar.video.content import content_sha256, frames_sha256
from mafsar.video.find import find_clips
from mafsar.video.frame_folder import clip_exists, is_frame_folder
from mafsar.video.geometry import Geometry
from mafsar.video.prefetch import ClipRequest, load_clips
from mafsar.video.scan import video_info
from mafsar.video.source import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    is_image,
    is_system_file,
    is_video,
    natural_key,
)
from mafsar.video.write import write_video

__all__ = [
    "IMAGE_SUFFIXES",
    "READING_RULES",
    "VIDEO_SUFFIXES",
    "Clip",
    "ClipRequest",
    "Geometry",
    "MemoryClip",
    "RawClip",
    "clip_exists",
    "clip_from_array",
    "clip_source",
    "content_sha256",
    "find_clips",
    "frames_sha256",
    "is_clip_source",
    "is_frame_folder",
    "is_image",
    "is_system_file",
    "is_video",
    "load_clip",
    "load_clips",
    "load_memory_clip",
    "load_raw_clip",
    "natural_key",
    "video_info",
    "write_video",
]
