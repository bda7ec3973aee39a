"""The formats of video files that are read: those whose file holds all that it shows.

FFmpeg also reads playlists, manifests, session descriptions, scripts and devices. These play other
files, wherever they lie, or the network: a file from somebody else must not choose those.
"""

from __future__ import annotations

from pathlib import Path

_NAMES = (
    "3dostr 4xm amv apng asf asf_o av1 avi avs2 avs3 bethsoftvid bfi bink c93 cavsvideo cdxl cine "
    "dfa dhav dirac dnxhd dsicin dv dxa ea ea_cdata evc film_cpk filmstrip flic flv frm gdv gif "
    "gxf h261 h263 h264 hevc hnm idcin iff ifv ingenient ipmovie ipu iv8 ivf ivr jv kux lmlm4 "
    "luodat lvf lxf m4v matroska mgsts mjpeg mjpeg_2000 mlv mm moflex mov mp4 mpeg mpegts "
    "mpegtsraw mpegvideo mpjpeg msnwctcp mtv mv mvi mxf mxg nc nsv nut nuv obu ogg paf pmp psxstr "
    "pva r3d rawvideo rl2 rm roq rpl sdr2 ser sga simbiosis_imx smjpeg smk smush swf thp "
    "tiertexseq tmv ty txd usm v210 v210x vc1 vc1test vividas vivo vmd vvc wc3movie webm wtv wsvqa "
    "xmv yop yuv4mpegpipe bmp_pipe gif_pipe jpeg_pipe png_pipe tiff_pipe webp_pipe jpegxl_anim"
)
FORMATS = tuple(_NAMES.split())
"""Names of FFmpeg's demuxers."""

_HEADS = (b"#EXTM3U", b"ffconcat version", b"[playlist]", b"[Reference]", b"#!AVS")


def is_playlist(path: Path) -> bool:
    """Whether a file begins as a list of other files does."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return False
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_HEADS)
