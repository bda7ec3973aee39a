"""A folder is replaced as a whole only where all in it is the package's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import mafsar
from mafsar.errors import InputError
from mafsar.files import foreign_entry
from mafsar.synthetic.sets.files import clear, write_manifest, write_tables
from mafsar.synthetic.sets.recipe import Recipe


def test_folders_count_by_what_is_in_them_and_links_as_entries(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "own").touch()
    assert foreign_entry(tmp_path, "a/own") is None
    (tmp_path / "a" / "b" / "link").symlink_to(tmp_path)
    assert foreign_entry(tmp_path, "a/own") == "a/b/link"


@pytest.mark.parametrize(
    "name", ["wave/mine.mp4", "notes.txt", "streams/a.mp4", "x/y/clip-000.mp4"]
)
def test_a_rendered_set_with_other_files_is_kept(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "set"
    write_manifest(folder, Recipe())
    write_tables(folder, ["wave_hand"])
    for own in ("wave_hand/clip-000.mp4", "streams/stream-000.csv", "support/labels.csv"):
        (folder / own).parent.mkdir(exist_ok=True)
        (folder / own).touch()
    mine = folder / name
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(InputError, match=f"holds '{name}', which was not rendered"):
        clear(folder)
    assert mine.read_text() == "mine"
    mine.unlink()
    clear(folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["README.md", "engines/old/a.engine", "docs/a.txt"])
def test_a_bundle_with_other_files_is_kept(old_files: Path, name: str) -> None:
    mine = old_files / "out.mafsar" / name
    mafsar.export_model("small.mafsar", "out.mafsar", precision="fp32", quiet=True)
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    again = {"precision": "fp16", "overwrite": True, "quiet": True}
    if name == "README.md":  # what is added to keeps what lies beside the graphs
        mafsar.export_model("small.mafsar", "out.mafsar", **again)
    else:
        with pytest.raises(InputError, match="which no bundle has"):
            mafsar.export_model("small.mafsar", "out.mafsar", **again)
    assert mine.read_text() == "mine"


def test_a_run_with_other_files_or_inputs_is_kept(old_files: Path) -> None:
    pytest.importorskip("torch")
    from mafsar.training.run_folder import check_folder

    run = old_files / "run"
    check_folder(run, overwrite=True, inputs=["small.mafsar", None, "hf-hub:a/b"])
    for read in ("run", run / "adapters.safetensors", "run/../run"):
        with pytest.raises(InputError, match="is read by the new run"):
            check_folder(run, overwrite=True, inputs=[read])
    for name in ("h.mafsar/bundle.json", "notes.txt", "checkpoints/best/adapters.safetensors"):
        mine = run / name
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(InputError, match="which no run writes"):
            check_folder(run, overwrite=True)
        mine.unlink()
    check_folder(run, overwrite=True)
