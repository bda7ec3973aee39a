"""The studio in a real browser whose camera shows rendered actions; `make test-live` runs these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import mafsar
from mafsar.synthetic import render_video

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
LABELS = ("bend_forward", "wave_hand", "put_in_box")
PATIENCE = 180_000  # milliseconds, for machines that are busy


@pytest.fixture(scope="module")
def browser(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(Path(__file__).with_name("browser.py"))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, browser: ModuleType) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("films")
    return {
        label: browser.write_film(folder / f"{label}.mjpeg", label, seed=21 + k)
        for k, label in enumerate(LABELS)
    }


def test_three_classes_by_webcam_then_the_right_live_event(
    browser: ModuleType, films: dict[str, Path], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    support, cache = tmp_path / "support", tmp_path / "cache"
    with browser.studio(support, cache) as address:
        for label in LABELS:
            with browser.page(films[label]) as page:
                page.goto(address)
                page.fill("#label", label)
                page.select_option("#seconds", "3")
                page.select_option("#many", "3")
                page.click("#start-record")
                cards = page.locator(f"[data-label='{label}'] .clip")
                expect(cards).to_have_count(3, timeout=PATIENCE)
                page.reload()
                expect(cards).to_have_count(3)
    assert {path.name for path in support.glob("*/*.webm")} == {"001.webm", "002.webm", "003.webm"}
    # A new studio finds what the first one was taught.
    with browser.studio(support, cache) as address, browser.page(films["wave_hand"]) as page:
        page.goto(f"{address}#watch")
        expect(page.locator("#labels option")).to_have_count(3)
        page.click("nav a[href='#watch']")
        page.click("#watch-start")
        first = page.locator("#events tr").first
        expect(first).to_contain_text("wave_hand", timeout=PATIENCE)
        expect(page.locator("#now")).to_have_text("wave_hand")
        page.click("#watch-start")
        expect(page.locator("#watch-start")).to_have_text("Start watching")
        told = page.locator("#events").inner_text()
        assert {line.split("\t")[0] for line in told.splitlines()} == {"wave_hand"}
        assert "…" not in told  # what went on has been ended
        page.reload()
        expect(page.locator("#events tr").first).to_contain_text("wave_hand")
        page.click("nav a[href='#teach']")
        expect(page.locator(".clip")).to_have_count(9)
        page.click("nav a[href='#export']")
        with page.expect_download() as download:
            page.click("#bank")
        download.value.save_as(tmp_path / "got.safetensors")
    bank = mafsar.read_bank(tmp_path / "got.safetensors")
    assert bank.labels == tuple(sorted(LABELS))
    assert len(bank) == 9


def test_files_by_keyboard_and_by_dropping_on_a_phone(browser: ModuleType, tmp_path: Path) -> None:
    """Labels in two scripts; a removed clip comes back; a query is named, with its alignment."""
    from playwright.sync_api import expect

    clips = {"انحناء للأمام": "bend_forward", "手を振る": "wave_hand"}
    for name in clips.values():
        for seed in (1, 2, 3):
            (tmp_path / name).mkdir(exist_ok=True)
            render_video(name, tmp_path / name / f"{seed}.mp4", seed=seed, size=112)
    phone = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark", "has_touch": True}
    with (
        browser.studio(tmp_path / "support", tmp_path / "cache") as address,
        browser.page(**phone) as page,
    ):
        page.goto(address)
        page.focus("#label")
        for label, name in clips.items():
            page.locator("#label").press("Control+A")
            page.keyboard.type(label)
            with page.expect_file_chooser() as chooser:
                page.focus("#choose")
                page.keyboard.press("Enter")
            chooser.value.set_files([tmp_path / name / f"{seed}.mp4" for seed in (1, 2)])
            cards = page.locator(f"[data-label='{label}'] .clip")
            expect(cards).to_have_count(2, timeout=PATIENCE)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        expect(page.locator("bdi[dir=auto]", has_text="انحناء للأمام").first).to_be_visible()
        first = page.locator("[data-label='手を振る'] .clip").first
        first.get_by_role("button", name="Remove").press("Enter")
        expect(page.locator(".clip")).to_have_count(3)
        page.get_by_role("button", name="Undo").press("Enter")
        expect(page.locator(".clip")).to_have_count(4)
        page.goto(f"{page.url.split('#')[0]}#try")
        page.set_input_files("#try-file", tmp_path / "wave_hand" / "3.mp4")
        expect(page.locator("#answer .tiles path").first).to_be_attached(timeout=PATIENCE)
        expect(page.locator("#answer .bars bdi")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        bad = tmp_path / "<img src=x onerror=alert(1)>.mp4"
        bad.write_bytes(b"garbage")
        page.set_input_files("#try-file", bad)
        expect(page.locator("#toast")).to_contain_text("<img src=x onerror=alert(1)>.mp4")
