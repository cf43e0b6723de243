"""A job whose output is at an address: the address holds what is done, and machines have copies of what they need.

s3://BUCKET/.NAME.tasks   plan, parts and outcomes, as next to a local output; what is next to it (next.*); joined
s3://BUCKET/NAME          shards of tasks that are done, or the joined output

The file ``joined`` is there when the output is complete and its parts are being deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from unheard.addresses import address_of, scheme_of
from unheard.errors import ConfigError, RemoteError, shown
from unheard.jobs.plan import PLAN, tasks_folder
from unheard.remote.access import attempt, file_system
from unheard.remote.listing import exists, files_below, is_folder
from unheard.remote.mirror import Mirror
from unheard.remote.outputs import upload_output
from unheard.remote.reading import open_file
from unheard.remote.writing import OBJECT_STORES, delete, naming, upload, working_place

JOINED = "joined"
NEXT = "next"
"""Prefix of the copies of hidden files that a job keeps next to its output."""


class AddressedJob:
    """Output and parts of a job at an address, with a local copy of both.

    Parameters
    ----------
    out : path
        The address.
    name : str
        Each name has a local place of its own.

    Raises
    ------
    ConfigError
        When the address is a bucket.
    """

    def __init__(self, out: str | Path, name: str) -> None:
        self.address = address_of(out).rstrip("/")
        if scheme_of(self.address) in OBJECT_STORES and "/" not in self.address.partition("://")[2]:
            raise ConfigError(f"{shown(self.address)} is a bucket; give a name in it, such as {self.address}/NAME")
        place = working_place(self.address, name)
        self.output = Mirror(place, self.address)
        self.tasks = Mirror(tasks_folder(place), parts_of(self.address))

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Name the addresses instead of the local places in errors."""
        with ExitStack() as both:
            for mirror in (self.output, self.tasks):
                both.enter_context(naming(mirror.folder, mirror.address))
            yield

    def part_names(self) -> list[str]:
        """Return the names of the files in the folder of the parts at the address."""
        return list(files_below(self.tasks.address)) if exists(self.tasks.address) else []

    def output_names(self) -> list[str]:
        """Return the names of the files in the output at the address, if it is a folder."""
        return list(files_below(self.address)) if is_folder(self.address) else []

    def fetch_outcomes(self) -> list[str]:
        """Copy plan, outcomes and marks, and return the names of the files of the parts at the address.

        Parts of a joined output are deleted. Outcomes without a plan, of late workers, are not copied.
        """
        names = self.part_names()
        if JOINED in names:
            self.delete_parts()
            return []
        if PLAN not in names:
            return names
        self.tasks.fetch(lambda name: name.endswith(".json") or not name.startswith("part-"))
        for file in self.tasks.folder.glob(f"{NEXT}.*"):
            shutil.copyfile(file, self.tasks.folder.with_name(file.name.removeprefix(NEXT)))
        return names

    def refuse_another_plan(self, names: list[str]) -> None:
        """Refuse parts of another job: several machines may have made a plan, and a local one may be of an earlier job.

        Parameters
        ----------
        names : list of str
            Of the files of the parts at the address.

        Raises
        ------
        ConfigError
            Naming both folders.
        RemoteError
            When the plan is gone.
        """
        if PLAN not in names:
            return
        with open_file(f"{self.tasks.address}/{PLAN}") as stored:
            same = stored.read() == (self.tasks.folder / PLAN).read_bytes()
        if not same:
            raise ConfigError(
                f"{shown(self.tasks.address)} has parts of another job than the local copy in"
                f" {shown(self.tasks.folder.parent)}; choose another -o, or delete one of these folders"
            )

    def upload_parts(self) -> None:
        """Upload the shards and the part of a task, and then its outcome."""
        if self.output.folder.is_dir():
            self.output.update(delete_gone=False)
        self.tasks.update(delete_gone=False)

    def upload_marks(self) -> None:
        """Upload what a continued job needs, before its plan."""
        place = self.output.folder
        for file in place.parent.glob(f".{place.name}.*"):
            if file.is_file() and not file.name.endswith(".lock"):
                shutil.copyfile(file, self.tasks.folder / f"{NEXT}{file.name}")
        for file in self.tasks.folder.iterdir():
            if file.is_file() and file.name != PLAN and not file.name.startswith((".", "part-")):
                upload(file, f"{self.tasks.address}/{file.name}")

    def upload_joined(self) -> None:
        """Upload the joined output, and delete the parts."""
        upload_output(self.output)
        if self.part_names():
            mark = self.output.folder.with_name(f".{JOINED}")
            mark.write_text(JOINED, encoding="utf-8")
            upload(mark, f"{self.tasks.address}/{JOINED}")
            mark.unlink()
        self.delete_parts()

    def delete_parts(self) -> None:
        """Delete the parts at the address: outcomes before their parts, then the plan, and the mark of a joined output.

        So what a killed process leaves belongs to a plan, or is deleted later.
        """
        for name in sorted(self.part_names(), key=lambda name: (name == JOINED, name == PLAN, name)):
            delete(f"{self.tasks.address}/{name}")
        if scheme_of(self.address) not in OBJECT_STORES:
            with suppress(FileNotFoundError, RemoteError):
                attempt(self.tasks.address, "deleted", lambda system, place: system.rmdir(place))


def parts_of(address: str) -> str:
    """Return the address of the folder of the parts of an output at an address."""
    parent, _, name = address.rstrip("/").rpartition("/")
    return f"{parent}/{tasks_folder(Path(name)).name}"


def refuse_parts_at(out: str | Path) -> None:
    """Refuse an address with parts of tasks whose output is not written in tasks now.

    Raises
    ------
    ConfigError
        Naming the folder of the parts, or when the scheme is unknown.
    """
    address = address_of(out)
    if not address:
        return
    file_system(address)  # refuses an unknown scheme by the address that was given
    parts = parts_of(address)
    names = list(files_below(parts)) if exists(parts) else []
    if JOINED in names:
        AddressedJob(address, "").delete_parts()
    elif names:
        raise ConfigError(
            f"{shown(parts)} has parts of tasks; complete the output with --task or with --engine ray --resume, replace"
            " it with --engine ray --overwrite, choose another -o, or delete that folder to start again"
        )
