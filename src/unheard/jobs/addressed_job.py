"""A job whose output is at an address: the address holds what is done, and machines have copies of what they need.

s3://BUCKET/.NAME.tasks   plan, parts and outcomes, as next to a local output
s3://BUCKET/NAME          shards of tasks that are done, or the joined output
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from unheard.addresses import address_of
from unheard.errors import ConfigError, shown
from unheard.jobs.plan import PLAN, tasks_folder
from unheard.remote.access import file_system
from unheard.remote.listing import exists, files_below, is_folder
from unheard.remote.mirror import Mirror
from unheard.remote.outputs import upload_output
from unheard.remote.reading import open_file
from unheard.remote.writing import delete, naming, working_place


class AddressedJob:
    """Output and parts of a job at an address, with a local copy of both.

    Parameters
    ----------
    out : path
        The address.
    name : str
        Each name has a local place of its own.
    """

    def __init__(self, out: str | Path, name: str) -> None:
        self.address = address_of(out).rstrip("/")
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

    def has_local_plan(self) -> bool:
        """Return whether the plan at the address is the local one.

        Raises
        ------
        RemoteError
            When it cannot be read.
        """
        with open_file(f"{self.tasks.address}/{PLAN}") as stored:
            return bool(stored.read() == (self.tasks.folder / PLAN).read_bytes())

    def refuse_another_plan(self) -> None:
        """Refuse parts of another job: several machines may have made a plan, and a local one may be of an earlier job.

        Raises
        ------
        ConfigError
            Naming both folders.
        """
        if PLAN in self.part_names() and not self.has_local_plan():
            raise ConfigError(
                f"{shown(self.tasks.address)} has parts of another job than {shown(self.tasks.folder.parent)}; choose"
                " another -o, or delete one of these folders"
            )

    def upload_parts(self) -> None:
        """Upload the shards and the part of a task, and then its outcome."""
        if self.output.folder.is_dir():
            self.output.update(delete_gone=False)
        self.tasks.update(delete_gone=False)

    def upload_joined(self) -> None:
        """Upload the joined output, and delete the parts."""
        upload_output(self.output)
        self.delete_parts()

    def delete_parts(self) -> None:
        """Delete the parts at the address: outcomes before their parts, and the plan last.

        So what a killed process leaves belongs to a plan.
        """
        for name in sorted(self.part_names(), key=lambda name: (name == PLAN, name)):
            delete(f"{self.tasks.address}/{name}")


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
    if exists(parts) and any(True for _ in files_below(parts)):
        raise ConfigError(
            f"{shown(parts)} has parts of tasks; complete the output with --task, or with --engine ray and --resume,"
            " choose another -o, or delete that folder to start again"
        )
