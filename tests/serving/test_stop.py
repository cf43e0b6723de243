"""Ctrl+C ends the server while the folder is embedded, and nothing looks like a crash afterwards."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("uvicorn")

PROGRAM = """
import os, pathlib, signal, sys, threading, time
from unheard.cli import main
from unheard.embedding.embedder import Model
from unheard.serving import folder_vectors, server
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with the signal ignored
encode = Model.encode
def slow(self, pending, options):
    encode(self, pending, options)
    time.sleep(0.3)
Model.encode = slow
def interrupt():
    while not list(folder_vectors.default_cache().glob("*/.embeddings.parquet.parts/in-work")):
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt, daemon=True).start()
if __name__ == "__main__":
    sys.exit(main(["serve", "random-tiny", sys.argv[1], "--port", sys.argv[2], "--device", "cpu"]))
"""


def test_an_interrupt_while_the_folder_is_embedded_is_no_crash(tmp_path: Path) -> None:
    """The thread ends before the process does; a file in work would count as one on which the process died."""
    (tmp_path / "sounds").mkdir()
    soundfile.write(
        tmp_path / "sounds" / "long.wav", 0.1 * np.random.default_rng(0).standard_normal(16000 * 900), 16000
    )
    (tmp_path / "job.py").write_text(PROGRAM)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(tmp_path / "job.py"), str(tmp_path / "sounds"), str(port)]
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)
    assert (done.returncode, "Ctrl+C ends the server" in done.stderr) == (130, True), done.stderr
    assert "terminate" not in done.stderr and "Traceback" not in done.stderr
    assert list((tmp_path / "cache").rglob("files.json")) and not list((tmp_path / "cache").rglob("in-work"))
