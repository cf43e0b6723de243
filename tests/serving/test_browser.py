"""The page in Chromium: run by scripts/browser; skipped where playwright or Chromium is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import soundfile
from tests.serving.conftest import RATE, make_folder, tone

from unheard.embedding.embedder import Model
from unheard.serving.app import build_app
from unheard.serving.folder_vectors import FolderVectors
from unheard.serving.guard import Address
from unheard.serving.library import Library
from unheard.serving.limits import Limits
from unheard.serving.workbench import Workbench

sync_api = pytest.importorskip("playwright.sync_api")
uvicorn = pytest.importorskip("uvicorn")
CHROMIUM, PORT = Path("/usr/bin/chromium"), 8467
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM.is_file(), reason="there is no /usr/bin/chromium")]
MICROPHONE = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
VIEWS = ("reconstruct", "map", "search", "label", "spans")


@pytest.fixture(scope="module")
def place(served_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve a folder, and return the place of its labels."""
    place = tmp_path_factory.mktemp("browser")
    library = Library(make_folder(place))
    vectors = FolderVectors(served_model, library, place / "cache")
    vectors.start()
    vectors.wait()
    bench = Workbench(served_model, library, Limits(), vectors, place / "labels.csv")
    soundfile.write(place / "dropped.wav", tone(700, 3.0), RATE)
    app = build_app(bench, Address(port=PORT))
    server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="error", timeout_graceful_shutdown=1))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    yield place
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(place: Path) -> Iterator[Any]:
    """Return the page, and fail on errors of its scripts and on requests to other hosts."""
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *MICROPHONE])
        opened, problems = browser.new_page(viewport={"width": 1200, "height": 900}), []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on("request", lambda asked: problems.append(asked.url) if f":{PORT}/" not in asked.url else None)
        opened.goto(f"http://127.0.0.1:{PORT}/")
        opened.wait_for_selector("#view-reconstruct .list button")
        yield opened
        browser.close()
        assert not [problem for problem in problems if not problem.startswith("blob:")]


DROP = """([bytes, name]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type: "audio/wav" }));
  const target = document.querySelector("#view-reconstruct .drop");
  for (const type of ["dragover", "drop"])
    target.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def test_drop_paint_ratio_attention_and_play(page: Any, place: Path) -> None:
    page.evaluate(DROP, [list((place / "dropped.wav").read_bytes()), "dropped.wav"])
    page.wait_for_selector("#command:not(:empty)")
    first = page.inner_text("#sentence")
    page.locator("#ratio").fill("0.3")
    page.wait_for_timeout(800)
    assert page.inner_text("#sentence") != first and "--mask-ratio 0.3" in page.inner_text("#command")
    box = page.locator("#input-plot").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 40, steps=10)
    page.mouse.up()
    page.wait_for_timeout(800)
    assert "--painted" in page.inner_text("#command") and page.input_value("#mask") == "painted"
    page.check("[name=click][value=attention]")
    page.locator("#input-plot canvas").click(position={"x": 300, "y": 80})
    page.wait_for_selector("#attention-figure:not([hidden])")
    assert "dropped.wav, 3.00 s" in page.inner_text("#view-reconstruct .drop")
    sizes = []
    for whole, what in ((False, "reconstructed"), (True, "masked")):
        page.set_checked("#whole", whole)
        with page.expect_response("**/api/resynthesis") as answer:
            page.click(f"[data-play={what}]")
        assert answer.value.status == 200
        sizes.append(int(answer.value.header_value("content-length")))
    assert sizes[1] > sizes[0]


def test_a_recording_of_the_microphone_is_reconstructed(page: Any) -> None:
    """Chromium plays beeps into its fake microphone."""
    page.click("#view-reconstruct >> text=Record")
    page.wait_for_selector("#view-reconstruct >> text=Stop recording")
    page.wait_for_timeout(1500)
    page.click("#view-reconstruct >> text=Stop recording")
    page.wait_for_selector("#command:not(:empty)")
    assert "The error on masked patches" in page.inner_text("#sentence")


def test_search_label_forty_clips_and_detect(page: Any, place: Path) -> None:
    page.click("#tab-search")
    page.locator("#view-search .list button").first.click()
    page.wait_for_selector("#view-search .hits li")
    page.click("#tab-label")
    page.fill("#view-label input[type=text]", "low")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-label .card .name")
    for _ in range(36):
        answer = "y" if page.inner_text("#view-label .card .name").startswith("low") else "n"
        with page.expect_response("**/labels/answer"):
            page.keyboard.press(answer)
        page.wait_for_timeout(120)
    assert len((place / "labels.csv").read_text().splitlines()) == 37
    page.click("text=Save the classifier")
    page.click("#view-label >> text=Detect with it")
    page.locator("#view-spans .list button").first.click()
    page.wait_for_selector("#view-spans code:not(:empty)")
    assert (place / "labels-classifier" / "model.safetensors").is_file()


def test_keyboard_alone_and_phone_width(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#view-reconstruct .list button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#command:not(:empty)")
    page.locator("#input-plot").focus()
    for key in ("ArrowRight", "ArrowUp", " ", "a"):
        page.keyboard.press(key)
    page.wait_for_selector("#attention-figure:not([hidden])")
    assert "column 2" in page.inner_text("#cursor")
    for view in VIEWS:
        page.click(f"#tab-{view}")
        page.wait_for_timeout(600)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)
    for view in VIEWS:
        page.click(f"#tab-{view}")
        page.wait_for_timeout(900)
        found = axe.run(page).response["violations"]
        assert not found, f"{view}: {[(each['id'], each['nodes'][0]['html'][:200]) for each in found]}"
