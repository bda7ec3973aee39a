"""The feature cache: what it saves, what its keys depend on, and what damage does to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mafsar.data.labelled import LabelledClip
from mafsar.errors import InputError
from mafsar.files import write_text, written_beside
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.cache.encoding import encode_clips
from mafsar.runtime.cache.features import FeatureCache, cache_folder, clip_key
from mafsar.runtime.match.matcher import Matcher
from mafsar.video import Geometry, write_video

KEY = "ab" + "0" * 62


def entry(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"frames": np.full((4, 16), value, np.float32)}


def test_a_second_call_encodes_only_the_query(encoder, support_folder, make_clip, tmp_path, cache):
    query = make_clip(tmp_path / "q", 1, 9)
    list(Matcher(enroll(support_folder, encoder, cache=cache), encoder).stream([query]))
    assert encoder.calls == {"query": 10, "support": 9, "text": 3}
    first = dict(encoder.calls)
    list(Matcher(enroll(support_folder, encoder, cache=cache), encoder).stream([query]))
    assert encoder.calls["query"] - first["query"] == 1
    assert encoder.calls["support"] == first["support"]
    assert encoder.calls["text"] == first["text"]


def test_cached_features_are_the_same_bits(encoder, support_folder, cache):
    fresh = enroll(support_folder, encoder, cache=False)
    enroll(support_folder, encoder, cache=cache)
    cached = enroll(support_folder, encoder, cache=cache)
    for name in ("query", "support", "pooled", "text"):
        assert getattr(fresh, name).tobytes() == getattr(cached, name).tobytes()


def test_a_moved_clip_is_found_and_a_changed_one_is_not(encoder, support_folder, make_clip, cache):
    enroll(support_folder, encoder, cache=cache)
    before = dict(encoder.calls)
    support_folder.rename(support_folder.with_name("elsewhere"))
    moved = support_folder.with_name("elsewhere")
    (moved / "jump" / "clip0").rename(moved / "jump" / "renamed")
    enroll(moved, encoder, cache=cache)
    assert encoder.calls == before
    shutil.rmtree(moved / "jump" / "renamed")
    make_clip(moved / "jump" / "renamed", 1, 55)
    enroll(moved, encoder, cache=cache)
    assert encoder.calls["query"] - before["query"] == 1


@pytest.mark.parametrize(
    "change",
    [
        {"branch": "support"},
        {"precision": "fp16"},
        {"files_sha256": "e" * 64},
        {"geometry": Geometry(hflip=True)},
        {"content_sha256": "c" * 64},
        {"start": 0.5},
        {"end": 2.0},
        {"text": "wave"},
        {"weights_sha256": "2" * 64},
        {"frames": 8},
        {"image_size": 64},
        {"mean": (0.5, 0.5, 0.5)},
        {"resample": "bilinear"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_key_depends_on_everything(change, make_encoder):
    asked = {
        "branch": "query", "precision": "fp32", "files_sha256": "f" * 64, "geometry": Geometry(), "content_sha256": "a" * 64,
        "start": None, "end": None, "text": None,
    }  # fmt: skip
    spec = make_encoder().spec
    changed = make_encoder(**{k: v for k, v in change.items() if k not in asked}).spec
    assert clip_key(spec, **asked) == clip_key(make_encoder().spec, **asked)
    assert clip_key(spec, **asked) != clip_key(
        changed, **(asked | {k: v for k, v in change.items() if k in asked})
    )


def test_the_key_depends_on_how_clips_are_read(make_encoder, monkeypatch):
    """Features made by older rules of reading, or by another clock, are not used."""
    asked = {"branch": "query", "precision": "fp32", "files_sha256": None, "geometry": Geometry(),
             "content_sha256": "a" * 64, "start": None, "end": None, "text": None}  # fmt: skip
    spec = make_encoder().spec
    keys = {clip_key(spec, **asked), clip_key(spec, **asked, ignore_clock=25.0)}
    monkeypatch.setattr("mafsar.runtime.cache.features.READING_RULES", 999)
    keys |= {clip_key(spec, **asked)}
    assert len(keys) == 3


def test_prompts_matter_where_there_is_text(make_encoder):
    asked = {"branch": "support", "precision": "fp32", "files_sha256": None, "geometry": Geometry(),
             "content_sha256": "a" * 64, "start": None, "end": None}  # fmt: skip
    specs = [make_encoder().spec, make_encoder(prompts=("{}",)).spec]
    worded = {clip_key(spec, **asked, text="wave") for spec in specs}
    plain = {clip_key(spec, **asked, text=None) for spec in specs}
    assert (len(worded), len(plain)) == (2, 1)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_other_files_of_the_same_weights_are_other_features(
    precision, make_encoder, make_clip, tmp_path, cache
):
    """An int8 graph depends on its calibration too, and a manifest may name any hash of weights.

    Small pictures depend on no graph.
    """
    clip = LabelledClip(make_clip(tmp_path / "clip", 1), "wave")

    def encode(files):
        encoder = make_encoder()
        encoder.precision, encoder.files_sha256 = precision, files
        encode_clips(encoder, [clip], ["wave"], images=True, cache=cache)
        return *encoder.calls.values(), cache.info().entries

    assert encode("a") == (1, 1, 1, 4)  # query, support, text; and the images
    assert encode("a") == (0, 0, 0, 4)
    assert encode("b") == (1, 1, 1, 7)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "other"])
def test_a_damaged_entry_is_made_again(damage, cache):
    cache.put(KEY, entry())
    (path,) = cache.folder.glob("??/*.safetensors")
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-7]
    elif damage == "flipped":
        data[-3] ^= 0x10
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray(b"not safetensors at all")
    path.write_bytes(data)
    assert cache.get(KEY) is None
    cache.put(KEY, entry(2.0))
    np.testing.assert_array_equal(cache.get(KEY)["frames"], entry(2.0)["frames"])


def test_the_oldest_go_above_the_cap(tmp_path):
    big = {"frames": np.zeros((100, 100), np.float32)}  # 40 kB
    cache = FeatureCache(tmp_path, cap_bytes=200_000)
    keys = [f"{i:02d}" + "f" * 62 for i in range(5)]
    for i, key in enumerate(keys):
        if i == 4:
            assert cache.get(keys[0]) is not None  # used again: now the youngest
        cache.put(key, big)
        for path in cache.folder.glob(f"{key[:2]}/*"):
            os.utime(path, (1000.0 + i, 1000.0 + i))
    info = cache.info()
    assert info.size_bytes <= 200_000
    assert cache.get(keys[1]) is None
    assert cache.get(keys[0]) is not None
    assert cache.get(keys[4]) is not None


def test_info_and_clear(tmp_path):
    cache = FeatureCache(tmp_path)
    assert cache.info().entries == 0
    cache.put(KEY, entry())
    cache.put("cd" + KEY[2:], entry())
    info = cache.info()
    assert (info.entries, info.path) == (2, tmp_path / "features")
    assert info.size_bytes == sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file())
    assert cache.clear().entries == 2
    assert cache.info().entries == 0


def test_the_variable_sets_the_place(monkeypatch, tmp_path):
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "here"))
    assert FeatureCache().folder == tmp_path / "here" / "features"
    monkeypatch.delenv("MAFSAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "mafsar"


def test_a_folder_that_cannot_be_written_is_said_once(encoder, support_folder, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file")
    bank = enroll(support_folder, encoder, cache=cache)
    assert len(bank.clips) == 9
    said = [record.getMessage() for record in caplog.records if "cache" in record.getMessage()]
    assert len(said) == 1
    assert "MAFSAR_CACHE" in said[0]


# Run as programs of their own: under importlib's mode no other process can import a test module.
WRITE_FOREVER = """
import sys
import numpy as np
from pathlib import Path
from mafsar.runtime.cache.features import FeatureCache
cache, value = FeatureCache(Path(sys.argv[1])), 0.0
while True:
    cache.put(sys.argv[2], {"frames": np.full((500, 500), value, np.float32)})
    if value == 0.0:
        print("ready", flush=True)
    value += 1.0
"""

WRITE_AND_READ = """
import sys
import numpy as np
from pathlib import Path
from mafsar.runtime.cache.features import FeatureCache
cache = FeatureCache(Path(sys.argv[1]), cap_bytes=300_000)
rng = np.random.default_rng(int(sys.argv[2]))
for _ in range(150):
    value = int(rng.integers(40))
    key = f"{value:02d}" + "e" * 62
    found = cache.get(key)
    assert found is None or (found["frames"] == value).all(), value
    cache.put(key, {"frames": np.full((60, 60), value, np.float32)})
"""


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_writer_leaves_a_whole_entry(tmp_path):
    with _start(WRITE_FOREVER, tmp_path, KEY) as writer:
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.05)
        writer.kill()
    frames = FeatureCache(tmp_path).get(KEY)["frames"]
    assert (frames == frames[0, 0]).all()


def test_processes_share_a_cache(tmp_path):
    programs = [_start(WRITE_AND_READ, tmp_path, seed) for seed in range(2)]
    for program in programs:
        _, said = program.communicate(timeout=120)
        assert program.returncode == 0, said
    assert FeatureCache(tmp_path, cap_bytes=300_000).info().size_bytes < 450_000


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f.json"
    write_text(path, "old")

    def fail() -> None:
        with written_beside(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_with_many_parts_is_hashed_once(encoder, tmp_path, cache, monkeypatch):
    from mafsar.runtime.cache import encoding

    hashed = []

    def counting(path):
        hashed.append(path)
        return encoding_sha256(path)

    encoding_sha256 = encoding.content_sha256
    monkeypatch.setattr(encoding, "content_sha256", counting)
    ramp = (np.full((64, 64, 3), 8 * i, np.uint8) for i in range(30))
    write_video(tmp_path / "long.mp4", ramp, 30)
    rows = [f"long.mp4,{label},{i / 10},{i / 10 + 0.4}" for i, label in enumerate("abab")]
    (tmp_path / "s.csv").write_text("\n".join(rows), encoding="utf-8")
    bank = enroll(tmp_path / "s.csv", encoder, cache=cache)
    assert len(hashed) == 1
    assert len(bank.clips) == 4
    assert {(clip.start, clip.end) for clip in bank.clips} == {
        (i / 10, i / 10 + 0.4) for i in range(4)
    }
    assert len({row.tobytes() for row in bank.query}) == 4
    assert [clip.duration_seconds for clip in bank.clips] == pytest.approx([0.4] * 4)


def test_entries_that_can_only_be_read_are_used_and_stay(cache, monkeypatch):
    cache.put(KEY, entry())

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("mafsar.runtime.cache.features.os.utime", refuse)
    np.testing.assert_array_equal(cache.get(KEY)["frames"], entry()["frames"])
    assert cache.get(KEY) is not None


def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="not a regular file"):
        write_text(pipe, "x")
    assert pipe.is_fifo()
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert (link.is_symlink(), target.read_text()) == (True, "new")


def test_a_folder_that_is_cleared_meanwhile_is_no_folder_that_cannot_be_written(
    tmp_path, monkeypatch, caplog
):
    cache = FeatureCache(tmp_path)
    replace = Path.replace

    def cleared(self, target):
        shutil.rmtree(tmp_path / "features")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cleared)
        cache.put(KEY, entry())
    assert not caplog.records
    cache.put(KEY, entry())
    assert cache.get(KEY) is not None
