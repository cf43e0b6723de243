"""The JavaScript of the guide runs an exported file in Chromium; run by scripts/browser, which fetches onnxruntime-web.

The environment variable ``ONNXRUNTIME_WEB`` names the folder with its files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

import unheard

sync_api = pytest.importorskip("playwright.sync_api")
RUNTIME, CHROMIUM = os.environ.get("ONNXRUNTIME_WEB", ""), Path("/usr/bin/chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (RUNTIME and CHROMIUM.is_file()), reason="needs ONNXRUNTIME_WEB and /usr/bin/chromium"),
]
FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "export.md"


@pytest.fixture
def site(exported: Path, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Serve a folder with the runtime, an exported file and a sound."""
    for name in FILES:
        shutil.copy(Path(RUNTIME) / name, tmp_path)
    shutil.copy(exported / "log-mel.onnx", tmp_path / "small.onnx")
    time = np.arange(16000) / 16000
    soundfile.write(tmp_path / "dog.wav", 0.3 * np.sin(2 * np.pi * 440 * time), 16000, subtype="FLOAT")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path))
    Thread(target=server.serve_forever, daemon=True).start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_guide_s_page_gives_the_vectors_of_embed(exported: Path, site: tuple[Path, str]) -> None:
    folder, address = site
    (code,) = re.findall(r"```javascript\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    shown = "window.result = JSON.stringify({dims: scene.dims, data: [...scene.data]});"
    (folder / "index.html").write_text(f'<!doctype html><script type="module">\n{code}\n{shown}\n</script>')
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, problems = browser.new_page(), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{address}/index.html")
        page.wait_for_function("window.result !== undefined", timeout=120_000)
        found = json.loads(page.evaluate("window.result"))
        browser.close()
    expected = unheard.load(exported / "log-mel").embed(folder / "dog.wav").scene
    assert not problems and found["dims"] == [1, len(expected)]
    np.testing.assert_allclose(found["data"], expected, atol=1e-4)
