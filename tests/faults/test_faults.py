"""Full disks, caches that cannot be written, threads, forks and new processes."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import signal
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import mafsar
from mafsar.errors import InputError
from mafsar.files import UnwritableError, write_text

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
ARCHIVE = Path(__file__).parents[1] / "compat" / "files-0.1.0.zip"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.setenv("MAFSAR_CACHE", str(tmp_path / "cache"))
    return tmp_path


def limited(work: Callable[[], object], most: int) -> str:
    """What a child says whose files may have no more bytes than `most`: a disk that is full."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "done"
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            work()
        except BaseException as error:  # noqa: BLE001 - it is what is looked at
            said = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, said.encode()[:4000])
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode()


def test_a_bank_that_does_not_fit_leaves_the_old_one(files: Path) -> None:
    bank = mafsar.read_bank(files / "on.safetensors")
    before = {path.name for path in files.iterdir()}
    for target in ("new.safetensors", "off.safetensors"):
        held = (files / target).read_bytes() if (files / target).exists() else None
        said = limited(lambda t=target: bank.save(files / t, overwrite=True), 1000)
        assert said.startswith(
            f"UnwritableError: {files / target}: cannot be written (File too large)"
        )
        assert ((files / target).read_bytes() if (files / target).exists() else None) == held
    assert {path.name for path in files.iterdir()} == before


def test_a_store_that_does_not_fit_is_unfinished_and_goes_on(files: Path) -> None:
    from mafsar.data.folders import read_own
    from mafsar.data.pack import pack
    from mafsar.data.store import Store, StoreSettings

    path = files / "s.sqlite"
    settings = StoreSettings(4, 32, 90)
    said = limited(lambda: pack(read_own(files / "clips"), path, settings, workers=1), 30_000)
    assert said.startswith(f"InputError: {path}: ")
    pack(read_own(files / "clips"), path, settings, workers=1)
    assert len(Store(path).catalogue().clips) == 10


def test_text_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match="/proc/x: cannot be written") as caught:
        write_text(Path("/proc/x"), "a")
    assert isinstance(caught.value, InputError)
    assert isinstance(caught.value, OSError)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "a")


def test_a_cache_that_cannot_be_written_keeps_nothing(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAFSAR_CACHE", "/proc/mafsar")
    model = mafsar.load_model(files / "small.mafsar", engine="onnx", device="cpu")
    bank = mafsar.enroll(files / "clips", model)
    bank.save(files / "new.safetensors")
    assert mafsar.read_bank(files / "new.safetensors").same_content(bank)


@pytest.mark.slow
def test_threads_and_processes_give_the_same_bits(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    answers = importlib.import_module("answering").answers
    expected = answers(str(files))
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(answers, [str(files)] * 16)) == {expected}
    model = mafsar.load_model(files / "small.mafsar", engine="onnx", device="cpu", threads=1)
    frames = np.random.default_rng(0).integers(0, 255, (1, 4, 32, 32, 3), np.uint8)
    alone = model.encode_query(frames).frames.tobytes()
    with ThreadPoolExecutor(16) as pool:  # one encoder for all
        shared = pool.map(lambda _: model.encode_query(frames).frames.tobytes(), range(64))
        assert set(shared) == {alone}
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as processes:
        assert set(processes.map_async(answers, [str(files)] * 2).get(240)) == {expected}


@pytest.mark.slow
def test_a_forked_process_answers_too(files: Path) -> None:
    """The native module's threads are not in a child; it starts its own."""
    from mafsar import kernels

    rng = np.random.default_rng(0)
    query, support = rng.normal(size=(64, 8, 32)), rng.normal(size=(40, 8, 32))
    pair = query.astype(np.float32), support.astype(np.float32)
    expected = kernels.otam_match(*pair).tobytes()
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe()
    child = context.Process(target=lambda: writer.send_bytes(kernels.otam_match(*pair).tobytes()))
    child.start()
    assert reader.poll(60)
    assert reader.recv_bytes() == expected
    child.join(60)
    assert child.exitcode == 0
    assert files.exists()
