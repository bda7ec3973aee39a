"""Two processes at one bank file: both changes are in it, or one of them is told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mafsar.errors import InputError, MissingError
from mafsar.files import locked
from mafsar.runtime.bank.bank import read_bank
from mafsar.runtime.bank.enroll import enroll
from mafsar.runtime.bank.update import remove_in_place, save_added


@pytest.fixture
def path(encoder, support_folder, tmp_path):
    return enroll(support_folder, encoder, cache=False).save(tmp_path / "bank.safetensors")


@pytest.fixture
def grown(encoder, make_clip, tmp_path):
    """Adds a class of one clip to a bank, in memory."""

    def grow(bank, label, kind):
        clip = make_clip(tmp_path / "more" / label, kind)
        return enroll({label: [clip]}, encoder, add_to=bank, cache=False)

    return grow


def test_what_was_added_meanwhile_stays(path, grown):
    before = read_bank(path)
    one, two = grown(before, "nod", 5), grown(before, "bow", 6)
    save_added(path, before, one)
    now = save_added(path, before, two)
    assert now.labels == read_bank(path).labels == ("bow", "clap_hands", "jump", "nod", "wave")
    assert len(now) == 11


def test_what_was_removed_meanwhile_stays_away(path, grown):
    before = read_bank(path)
    after = grown(before, "nod", 5)
    remove_in_place([path], class_names=["jump"])
    assert save_added(path, before, after).labels == ("clap_hands", "nod", "wave")


def test_the_same_clip_added_twice_counts_once(path, grown):
    before = read_bank(path)
    after = grown(before, "nod", 5)
    save_added(path, before, after)
    assert save_added(path, before, after).same_content(after)
    assert len(read_bank(path)) == len(after)


def test_background_clips_are_added_too(path, encoder, make_clip, tmp_path):
    before = read_bank(path)
    clip = make_clip(tmp_path / "quiet", 8)
    other = make_clip(tmp_path / "still", 9)
    support = {"_none": [clip], "wave": [make_clip(tmp_path / "w", 2, 7)]}
    after = enroll(support, encoder, add_to=before, cache=False)
    save_added(path, before, enroll({"nod": [other]}, encoder, add_to=before, cache=False))
    now = save_added(path, before, after)
    assert now.class_index.tolist().count(-1) == 1
    assert len(now) == 12


def test_a_bank_that_was_deleted_is_written_whole(path, grown):
    before = read_bank(path)
    after = grown(before, "nod", 5)
    path.unlink()
    assert save_added(path, before, after).same_content(after)


def test_many_at_once(path, grown):
    before = read_bank(path)
    changed = [grown(before, f"class {i}", 20 + i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(save_added, path, before, each) for each in changed]
        jobs += [
            pool.submit(remove_in_place, [path], class_names=[label]) for label in ("jump", "wave")
        ]
        for job in jobs:
            job.result()
    assert read_bank(path).labels == ("clap_hands", *(f"class {i}" for i in range(8)))
    assert [each.name for each in path.parent.glob(".*")] == []


def test_none_is_written_where_one_lacks_the_name(path, tmp_path):
    other = tmp_path / "other.safetensors"
    remove_in_place([path], class_names=["jump"])
    read_bank(path).save(other)
    before = path.read_bytes()
    with pytest.raises(MissingError, match="jump"):
        remove_in_place([other, path, other], class_names=["jump"])
    assert path.read_bytes() == before


def test_without_overwrite_one_of_two_is_told(path, tmp_path):
    bank, target = read_bank(path), tmp_path / "new.safetensors"
    ready = threading.Barrier(4)

    def save(_):
        ready.wait()
        try:
            bank.save(target)
        except InputError as error:
            return str(error)
        return "written"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(save, range(4)))
    assert said.count("written") == 1
    assert sum("exists already" in each for each in said) == 3
    assert read_bank(target).same_content(bank)


def test_the_lock_keeps_another_process_out(tmp_path):
    path = tmp_path / "bank.safetensors"
    code = (
        "import sys; from pathlib import Path; from mafsar.files import locked\n"
        "with locked(Path(sys.argv[1]), waiting=lambda: print('waiting', flush=True)):\n"
        "    print('in', flush=True)\n"
    )
    with locked(path):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout.readline() == "waiting\n"
    assert other.communicate(timeout=60)[0] == "in\n"
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_put_in_the_place_of_the_lock_is_not_touched(path, tmp_path):
    """A link there would be emptied, and a pipe would block."""
    lock, other = path.with_name(f".{path.name}.lock"), tmp_path / "other.txt"
    other.write_text("mine")
    for make in (lambda: lock.symlink_to(other), lambda: os.mkfifo(lock), lock.mkdir):
        make()
        with pytest.raises(InputError, match=r"no lock; remove it"):
            remove_in_place([path], class_names=["jump"])
        lock.rmdir() if lock.is_dir() else lock.unlink()
    assert other.read_text() == "mine"
    remove_in_place([path], class_names=["jump"])


def test_a_killed_holder_holds_nothing(path):
    code = (
        "import sys, time; from pathlib import Path; from mafsar.files import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "in\n"
        holder.kill()
    assert path.with_name(f".{path.name}.lock").exists()
    remove_in_place([path], class_names=["jump"])
    assert [each.name for each in path.parent.glob(".*")] == []


def test_python_adds_like_the_command_line(path, grown):
    """Both processes read the bank before either has written."""
    one, two = (grown(read_bank(path), label, kind) for label, kind in (("nod", 5), ("bow", 6)))
    one.save(path, overwrite=True)
    two.save(path, overwrite=True)
    assert read_bank(path).labels == ("bow", "clap_hands", "jump", "nod", "wave")
    remove_in_place([path], class_names=["jump"])
    two.save(path, overwrite=True)  # a second time: nothing twice, nothing back
    assert read_bank(path).labels == ("bow", "clap_hands", "nod", "wave")


def test_adding_in_two_steps_is_merged_with_the_file_too(path, grown):
    first = grown(read_bank(path), "nod", 5)
    both = grown(first, "bow", 6)
    remove_in_place([path], class_names=["wave"])
    both.save(path, overwrite=True)
    assert read_bank(path).labels == ("bow", "clap_hands", "jump", "nod")


def test_a_bank_saved_elsewhere_is_itself(path, grown, tmp_path):
    after = grown(read_bank(path), "nod", 5)
    other = after.save(tmp_path / "other.safetensors")
    remove_in_place([other], class_names=["jump"])
    after.save(other, overwrite=True)
    assert read_bank(other).same_content(after)


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04", b"any text", b"\x10" + bytes(7) + b'{"w":{}}      ', bytes(5000)]
)
def test_only_a_bank_is_replaced_by_a_bank(path, tmp_path, content):
    bank = read_bank(path)
    other = tmp_path / "weights.safetensors"
    other.write_bytes(content)
    with pytest.raises(InputError, match="is not a bank, so it is not replaced"):
        bank.save(other, overwrite=True)
    assert other.read_bytes() == content
    path.write_bytes(path.read_bytes()[:5000])  # a damaged bank, and an empty file, are replaced
    bank.save(path, overwrite=True)
    assert read_bank(path).same_content(bank)
    other.write_bytes(b"")
    bank.save(other, overwrite=True)
    assert read_bank(other).same_content(bank)
