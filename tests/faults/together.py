"""Two processes on one output, signals, and a full disk."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
from tests.faults.kills import jobs
from tests.faults.processes import CRASHED, kill, run, start, verb, wait

from unheard.embedding.verify import verify

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def two_writers(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Start a verb twice on one output. Return how often, and what was damaged or not refused by name."""
    rng, faults = np.random.default_rng(seed), []
    every = jobs(place / "inputs")
    for number in range(count):
        name = list(every)[number % len(every)]
        out, job = place / "shared", every[name]
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        children = []
        for which in range(2):
            children.append(start(verb(job.first(out)), place / f"log-{which}"))
            time.sleep(float(rng.uniform(0, 0.2)))
        ended = [wait(child, place / f"log-{which}", began) for which, child in enumerate(children)]
        codes = [each.code for each in ended]
        refused = [each.text for each in ended if each.code == 2]
        if (
            0 not in codes
            or CRASHED in codes
            or not all("is being written by" in text or "exists" in text for text in refused)
        ):
            faults.append(f"{name}: exit codes {codes}: {' / '.join(each.text[-200:] for each in ended)}")
        elif any(out.rglob("*.json")) and (damaged := verify([out])):
            faults.append(f"{name}: {damaged[0]}")
    return count, faults


def signals(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Send signals to a run at seeded moments and continue it. Return how many, and what differed."""
    rng, faults = np.random.default_rng(seed), []
    job = jobs(place / "inputs")["pretrain"]
    whole = run(verb(job.first(place / "whole")), place / "log")
    wanted = job.made(place / "whole")
    for number in range(count):
        out, sent = place / "signalled", SIGNALS[number % len(SIGNALS)]
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        child = start(verb(job.first(out)), place / "log")
        time.sleep(float(rng.uniform(0.2, 1.0)) * whole.seconds)
        kill(child, sent)
        first = wait(child, place / "log", began)
        ended = run(verb(job.again(out)), place / "log")
        if ended.code == 2 and "there is no" in ended.text:
            ended = run(verb([*job.first(out), "--overwrite"]), place / "log")
        if "Traceback" in first.text or ended.code or job.made(out) != wanted:
            faults.append(
                f"{sent.name}, {number}: exit {first.code} then {ended.code}: {first.text[-200:]} {ended.text[-200:]}"
            )
    return count, faults


def full_disk(place: Path, count: int, seed: int = 0) -> tuple[int, list[str]]:
    """Run verbs on a small file system that fills up, make room, and continue. Return how many, and what was lost or
    unclear.

    Mounting needs root; without it nothing is tried.
    """
    rng, faults, tried = np.random.default_rng(seed), [], 0
    every = {
        name: job
        for name, job in jobs(place / "inputs").items()
        if name in ("pretrain", "pack", "targets", "embed", "finetune")
    }
    wanted = {}
    for name, job in every.items():
        run(verb(job.first(place / f"whole-{name}")), place / "log")
        wanted[name] = job.made(place / f"whole-{name}")
    disk = place / "disk"
    disk.mkdir(exist_ok=True)
    for number in range(count):
        name = list(every)[number % len(every)]
        job = every[name]
        used = sum(file.stat().st_size for file in (place / f"whole-{name}").rglob("*") if file.is_file())
        size = max(8192, int(used * rng.uniform(0.2, 0.9)))
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True
        ).returncode:
            return tried, faults
        try:
            tried += 1
            out = disk / "out"
            first = run(verb(job.first(out)), place / "log")
            if first.code not in (0, 2) or "Traceback" in first.text:
                faults.append(f"{name} on {size} bytes: exit {first.code}: {first.text[-300:]}")
            subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True, capture_output=True)
            ended = run(verb(job.again(out)), place / "log")
            if ended.code == 2 and ("there is no" in ended.text or "exists" in ended.text):
                ended = run(verb([*job.first(out), "--overwrite"]), place / "log")
            if ended.code or job.made(out) != wanted[name]:
                faults.append(f"{name} on {size} bytes, continued: exit {ended.code}: {ended.text[-300:]}")
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):
                subprocess.run(["umount", str(disk)], check=True, capture_output=True)
    return tried, faults
