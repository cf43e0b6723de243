"""Fetch sounds with the system's package manager: download, unpack, record the origin of each file.

``apt-get download`` and ``dpkg-deb`` fetch and unpack Debian packages without installing them and without root rights.
Only the packages of `unheard.datasets.packages` are fetched. Sound files are written to ``OUT/PACKAGE/...``.
``OUT/manifest.csv`` has one row for each file. Files of the test split of a task in `unheard.datasets.filename_labels`
are marked ``heldout`` there, and `unheard.data.manifest.pretraining_rows` leaves them out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from unheard.addresses import named
from unheard.audio.suffixes import AUDIO_SUFFIXES
from unheard.audio.waveform import info
from unheard.data.manifest import COLUMNS, NAME, read_manifest
from unheard.datasets.filename_labels import test_paths
from unheard.datasets.packages import SOUNDFONTS, domain, packages
from unheard.datasets.telephone_codecs import to_wav
from unheard.errors import AudioError, DataError
from unheard.files import write_table
from unheard.progress import Track, silent

_WANTED = AUDIO_SUFFIXES | {".g722", ".gsm", ".sf2"}


@dataclass
class FetchReport:
    """Result of a fetch.

    Parameters
    ----------
    manifest : Path
        The manifest of all files in the folder.
    packages : dict of str to int
        Number of new sound files of each package.
    already : list of str
        Packages that were already in the folder and are unchanged.
    files, hours : int, float
        Totals of the manifest.
    heldout : int
        Number of files that pre-training leaves out.
    skipped : dict of str to str
        Files that cannot be read or converted, with the reason.
    """

    manifest: Path
    packages: dict[str, int] = field(default_factory=dict)
    already: list[str] = field(default_factory=list)
    files: int = 0
    hours: float = 0.0
    heldout: int = 0
    skipped: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        return asdict(self) | {"manifest": named(self.manifest)}

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        came = [f"{name}: {count} files" for name, count in self.packages.items()]
        already = [f"already there: {', '.join(self.already)}"] if self.already else []
        skipped = [f"skipped {path}: {reason}" for path, reason in sorted(self.skipped.items())]
        total = (
            f"{self.files} files, {self.hours:.1f} hours, {self.heldout} files held out for tasks; listed in"
            f" {named(self.manifest)}"
        )
        return [*came, *already, *skipped, total]


def fetch(name: str, out: Path | str, track: Track = silent) -> FetchReport:
    """Fetch a corpus or one package into a folder; packages in the folder's manifest are kept.

    Parameters
    ----------
    name : str
        Tier S, M, L, ``soundfonts``, or a package of `unheard.datasets.packages`.
    out : Path
        Folder to write. A second fetch into the same folder adds to it, so an interrupted fetch is continued by
        repeating it.

    Raises
    ------
    DataError
        For an unknown name, if ``apt-get`` or ``dpkg-deb`` is missing, or when packages could not be fetched. The
        message lists these, and the others are kept.

    Examples
    --------
    >>> fetch("S", "corpora/S").hours  # doctest: +SKIP
    5.9
    """
    wanted, out = packages(name), Path(out)
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise DataError(
                f"fetching {name} needs {program}, which this system lacks; use Debian or Ubuntu, or your own sound"
                " files"
            )
    report, failed = FetchReport(out / NAME), {}
    rows = read_manifest(out) if report.manifest.exists() else []
    report.already = [package for package in wanted if _is_there(package, rows, out)]
    missing = [package for package in wanted if package not in report.already]
    for package in track(missing, len(missing), "packages"):
        try:
            new = _fetch_package(package, out, report.skipped)
        except (DataError, OSError) as error:
            failed[package] = str(error)
            continue
        report.packages[package] = len(new)
        rows += new
        _write_manifest(report.manifest, rows)
    _write_manifest(report.manifest, rows)  # also without new files: test splits may have changed with the library
    if failed:
        reasons = "; ".join(f"{package}: {reason}" for package, reason in failed.items())
        raise DataError(
            f"{len(failed)} of {len(missing)} packages could not be fetched, the others are kept; run the same command"
            f" again. {reasons}"
        )
    report.files, report.hours = len(rows), sum(float(row["seconds"]) for row in rows) / 3600
    report.heldout = sum(row["heldout"] == "1" for row in rows)
    return report


def _is_there(package: str, rows: Sequence[dict[str, str]], out: Path) -> bool:
    if package in SOUNDFONTS:
        return any((out / package).rglob("*.sf2"))
    return any(row["package"] == package for row in rows)


def _fetch_package(package: str, out: Path, skipped: dict[str, str]) -> list[dict[str, str]]:
    """Download and unpack one package in a temporary folder, move its sounds to their place and describe them."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=out) as folder:
        archive = _download(package, Path(folder))
        tree = Path(folder, "tree")
        _run(["dpkg-deb", "-x", str(archive), str(tree)], package)
        version = _run(["dpkg-deb", "-f", str(archive), "Version"], package).strip()
        members = _unzip(tree, _members(tree))
        found = {_short(package, member): (member, path) for member, path in members.items()}
        usable = to_wav(found, skipped)
        with ThreadPoolExecutor(4) as pool:
            described = list(
                pool.map(lambda pair: _describe(package, version, pair[0], pair[1], skipped), usable.items())
            )
        rows = [row for row in described if row is not None]
        for path, (_, source) in usable.items():
            if path not in skipped:
                (out / path).parent.mkdir(parents=True, exist_ok=True)
                source.replace(out / path)
    return rows


def _download(package: str, folder: Path) -> Path:
    _run(["apt-get", "download", package], package, cwd=folder)
    archives = list(folder.glob("*.deb"))
    if len(archives) != 1:
        raise DataError(f"apt-get download {package} gave {len(archives)} archives instead of one; try again")
    return archives[0]


def _run(command: list[str], package: str, cwd: Path | None = None) -> str:
    """Run a program to its end and return its output; its last line of errors becomes the error."""
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise DataError(
            f"{' '.join(command[:2])} failed for {package} ({reason}); check the network, then try 'apt-get update'"
        )
    return done.stdout


def _members(tree: Path) -> dict[str, Path]:
    """Return the wanted files of an unpacked package by path; links and folders of recorded silence are left out."""
    found = {
        path.relative_to(tree).as_posix(): path
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    return {
        name: path
        for name, path in found.items()
        if path.suffix.lower() in _WANTED | {".pk3"} and path.parent.name != "silence"
    }


def _unzip(tree: Path, members: dict[str, Path]) -> dict[str, Path]:
    """Replace each .pk3 (a zip of game data) by its sound files, named ``ARCHIVE!MEMBER``."""
    out = {name: path for name, path in members.items() if path.suffix != ".pk3"}
    for name, path in members.items():
        if path.suffix != ".pk3":
            continue
        with zipfile.ZipFile(path) as archive:
            for inner in sorted(archive.namelist()):
                if Path(inner).suffix.lower() in _WANTED:
                    out[f"{name}!{inner}"] = Path(archive.extract(inner, f"{path}.unzipped"))
    return out


def _short(package: str, member: str) -> str:
    """Return the path of a member below OUT: the package's name and its path without ``usr/share`` and ``games``."""
    inside = member.rpartition("!")[2].removeprefix("usr/").removeprefix("share/").removeprefix("games/")
    return f"{package}/{inside}"


def _describe(
    package: str, version: str, path: str, item: tuple[str, Path], skipped: dict[str, str]
) -> dict[str, str] | None:
    """Return the manifest row of a file; None for a soundfont and for an unreadable file, which is added to
    ``skipped``.
    """
    member, source = item
    if source.suffix == ".sf2":
        return None
    try:
        seconds = info(source).seconds
    except AudioError:
        skipped[path] = "libsndfile cannot read it"
        return None
    if not seconds:
        skipped[path] = "it holds no samples"
        return None
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    values = (path, package, version, member, digest, f"{seconds:.4f}", domain(package, member), "")
    return dict(zip(COLUMNS, values, strict=True))


def _write_manifest(path: Path, rows: list[dict[str, str]]) -> None:
    """Sort, mark the files of test splits, and write under a temporary name first."""
    rows.sort(key=lambda row: row["path"])
    tested = test_paths(rows)
    for row in rows:
        row["heldout"] = "1" if row["path"] in tested else ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, COLUMNS, rows)
    except OSError as error:
        raise DataError(f"cannot write {path}: {error}; choose a writable folder with free space") from error
