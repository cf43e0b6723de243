"""Take the screenshots of the page of ``unheard serve`` with Chromium, on the sounds of a folder.

python docs/screenshots.py FOLDER    write docs/images/serve-*.png (needs playwright and the extra serve)
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import uvicorn
from playwright.sync_api import Page, sync_playwright

from unheard.embedding.loading import load
from unheard.serving.app import build_app
from unheard.serving.folder_vectors import FolderVectors
from unheard.serving.guard import Address
from unheard.serving.library import Library
from unheard.serving.limits import Limits
from unheard.serving.workbench import Workbench

IMAGES = Path(__file__).parent / "images"
PORT = 8459
PART = "step"  # of the names of files that are positive examples


def take(page: Page) -> None:
    """Use each view, and write its picture."""
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.locator("#view-reconstruct .list button").nth(4).click()
    page.wait_for_selector("#command:not(:empty)")
    page.screenshot(path=IMAGES / "serve-reconstruction.png")
    page.click("#tab-search")
    page.locator("#view-search .list button").first.click()
    page.wait_for_selector("#view-search .hits li")
    page.screenshot(path=IMAGES / "serve-search.png")
    page.click("#tab-label")
    page.fill("#view-label input[type=text]", "footstep")
    page.locator("#view-label [type=search]").fill(PART)
    page.wait_for_timeout(800)
    page.locator("#view-label .list button").first.click()
    page.click("#view-label >> text=Begin")
    page.wait_for_selector("#view-label .card .name")
    for _ in range(40):
        answer = "y" if PART in page.inner_text("#view-label .card .name") else "n"
        with page.expect_response("**/labels/answer"):
            page.keyboard.press(answer)
        page.wait_for_timeout(80)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=IMAGES / "serve-label.png")


def main() -> None:
    """Serve the folder in this process while the pictures are taken."""
    with TemporaryDirectory() as place:
        model, library = load(device="cpu"), Library(Path(sys.argv[1]))
        vectors = FolderVectors(model, library, Path(place))
        vectors.start()
        vectors.wait()
        bench = Workbench(model, library, Limits(), vectors, Path(place, "labels.csv"))
        app = build_app(bench, Address(port=PORT))
        server = uvicorn.Server(uvicorn.Config(app, port=PORT, log_level="warning", timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, daemon=True)
        thread.start()
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            take(browser.new_page(viewport={"width": 1100, "height": 720}))
            browser.close()
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
