"""The clips below a folder, and what was skipped on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mafsar.errors import InputError, MissingError, option
from mafsar.files import exists, is_file, is_folder
from mafsar.video.animated import is_moving_picture
from mafsar.video.frame_folder import is_frame_folder, with_pattern
from mafsar.video.frame_names import is_other_kind
from mafsar.video.sniff import clip_kind
from mafsar.video.source import is_system_file, natural_key
from mafsar.video.walking import Walk, warn_of_unlisted

_CAMERA_WORDS = frozenset(
    {"color", "colour", "frame", "frames", "image", "images", "im", "img", "imgs", "rgb"}
)
_KIND_WORDS = frozenset({"u", "v", "x", "y"})


@dataclass
class Found:
    """What lies below a folder.

    Attributes:
        clips: Video files and frame folders, in natural order.
        skipped: Files that are no clips, and folders of flow, depth or masks beside frames.
    """

    clips: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)


def find_clips(folder: Path | str, *, images: bool = False) -> list[Path]:
    """Returns the clips below a folder: video files and frame folders, in natural order.

    Files whose ending says nothing are looked at by content.

    Args:
        folder: Searched with all its subfolders. A frame folder or a file is one clip by itself.
        images: Also count single pictures that lie beside videos.

    Returns:
        Paths that start with ``folder``, without files of the operating system.

    Raises:
        MissingError: If the folder does not exist.
        InputError: If it cannot be listed.
    """
    return search_clips(folder, images=images).clips


def search_clips(
    folder: Path | str, *, images: bool = False, leave_out_unlisted: bool = False
) -> Found:
    """Returns the clips below a folder, as `find_clips` does, and what was skipped.

    A search that takes long logs how far it has come.

    Args:
        folder: See `find_clips`.
        images: See `find_clips`.
        leave_out_unlisted: Leave out folders below that cannot be listed, with a warning in the log.

    Raises:
        MissingError: The folder does not exist.
        InputError: It cannot be listed, or one below it.
    """
    folder = Path(folder)
    found = Found()
    # No recursion, and each folder once: links may lead in circles, folders nest without end.
    seen: set[tuple[int, int]] = set()
    walk = Walk(folder)
    waiting, unlisted = [folder], []
    while waiting:
        entry = waiting.pop()
        walk.step()
        if entry != folder and not is_folder(entry):
            _judge(entry, images, found)
        elif entry == folder or _is_new(entry, seen):
            try:
                waiting += _look_into(entry, found, seen)[::-1]
            except InputError:
                if entry == folder or not leave_out_unlisted:
                    raise
                unlisted.append(entry)
    warn_of_unlisted(folder, unlisted)
    return found


def skipped_note(root: Path, skipped: Sequence[Path]) -> str | None:
    """One sentence that counts and names files that were skipped; None for none."""
    if not skipped:
        return None
    endings = Counter(
        "folder" if path.is_dir() else path.suffix.lower() or "no ending" for path in skipped
    )
    kinds = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    names = ", ".join(_relative(path, root) for path in skipped[:3])
    more = ", …" if len(skipped) > 3 else ""
    one = len(skipped) == 1
    what = "file or folder that is no clip" if one else "files or folders that are no clips"
    return f"{root}: skipped {len(skipped)} {what} ({kinds}: {names}{more})"


def choose_frames(clips: Sequence[Path], pattern: str | None) -> list[Path]:
    """The clips, with a pattern of names where it chooses among the pictures of a folder."""
    return [with_pattern(path, pattern) for path in clips]


def check_chosen(clips: Iterable[Path | None], pattern: str | None, source: Path) -> None:
    """Raises an error where a pattern of names fits in no folder.

    Raises:
        InputError: None of the clips ends in the pattern.
    """
    if pattern is not None and not any(path and path.name == pattern for path in clips):
        raise InputError(
            option(frames_pattern=pattern), f": no frame folder of {source} has such names"
        )


def camera_folders(folders: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Frame folders that lie side by side: those that a camera saw, and flow, depth and masks.

    ``clip/img`` beside ``clip/flow_x`` and ``clip/flow_y`` is one clip. Where the names do not say
    so plainly, all are clips.
    """
    others = [path for path in folders if _is_other(path.name)]
    shown = [path for path in folders if path not in others]
    if others and len(shown) == 1 and shown[0].name.lower() in _CAMERA_WORDS:
        return shown, others
    return list(folders), []


def _is_new(folder: Path, seen: set[tuple[int, int]]) -> bool:
    """Whether a folder was not searched yet, by whatever path."""
    try:
        state = folder.stat()
    except OSError:  # gone meanwhile, as the folder of a process
        return False
    identity = (state.st_dev, state.st_ino)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def _look_into(folder: Path, found: Found, seen: set[tuple[int, int]]) -> list[Path]:
    """What is still to be judged of a folder, in natural order; a clip is noted at once."""
    try:
        if not exists(folder) and not is_frame_folder(folder):
            raise MissingError(f"{folder}: no such file or folder; check the path")
        if is_file(folder) or is_frame_folder(folder):
            found.clips.append(folder)
            return []
        _is_new(folder, seen)
        entries = sorted(_visible(folder.iterdir()), key=natural_key)
        folders = [entry for entry in entries if is_folder(entry)]
    except MissingError:
        raise
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}); make it readable for this user"
        ) from None
    _, others = camera_folders(folders)
    found.skipped += others
    return [entry for entry in entries if entry not in others]


def _judge(file: Path, images: bool, found: Found) -> None:
    """Notes a file as a clip or as skipped."""
    kind = clip_kind(file)
    if kind == "video" or (kind == "image" and (images or is_moving_picture(file))):
        found.clips.append(file)
    else:
        found.skipped.append(file)


def _visible(entries: Iterable[Path]) -> Iterable[Path]:
    return (entry for entry in entries if not is_system_file(entry))


def _is_other(name: str) -> bool:
    return name.lower() in _KIND_WORDS or is_other_kind(name)


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
