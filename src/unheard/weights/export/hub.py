"""Upload of an exported model to the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unheard.errors import ConfigError, require
from unheard.weights.checkpoint import SavedModel
from unheard.weights.export.hf_folder import save_hf
from unheard.weights.layouts import LAYOUTS


@dataclass(frozen=True)
class Upload:
    """An upload, done or planned."""

    repo: str
    """Name of the repository: USER/NAME."""
    files: dict[str, int]
    """Bytes of each file."""
    card: str
    """Model card."""
    url: str = ""
    """Address of the upload; empty for a dry run."""

    def text(self) -> str:
        """Return the files and the card as text."""
        rows = [f"{name}  {size / 1e6:.2f} MB" for name, size in self.files.items()]
        return "\n".join([f"{self.url or self.repo + ' (dry run: nothing is uploaded)'}", *rows, "", self.card])


def push(
    saved: SavedModel, repo: str, *, dry_run: bool = False, code: bool = True, private: bool = False,
    show: Callable[[str], object] = print,
) -> Upload:  # fmt: skip
    """Upload a model as a Hugging Face folder.

    Parameters
    ----------
    repo : str
        USER/NAME; it is created if it does not exist.
    dry_run : bool
        Show the files and the card, and upload nothing.
    code : bool
        Include the code, so that ``trust_remote_code=True`` loads the model without this package.
    private : bool
        Create the repository as a private one.
    show : callable
        Receives the text of a dry run.

    Raises
    ------
    ConfigError
        When the licence of the weights forbids redistribution, or the upload fails.
    UnheardError
        When the extra ``hf`` is missing.
    """
    refuse_licence(saved.provenance.licence)
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"{repo!r} is not the name of a repository; give USER/NAME")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save_hf(saved, folder, code=code)
        files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        plan = Upload(repo, files, (folder / "README.md").read_text(encoding="utf-8"))
        if dry_run:
            show(plan.text())
            return plan
        return Upload(repo, files, plan.card, _upload(folder, repo, private))


def refuse_licence(licence: str) -> None:
    """Refuse weights that must not be redistributed.

    Raises
    ------
    ConfigError
        With the licence.
    """
    if any(licence == layout.licence and not layout.redistribution for layout in LAYOUTS.values()):
        raise ConfigError(f"the licence of these weights does not allow redistribution, so they stay here: {licence}")


def _upload(folder: Path, repo: str, private: bool) -> str:
    require("huggingface_hub", "hf")
    import huggingface_hub

    try:
        hub = huggingface_hub.HfApi()
        hub.create_repo(repo, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=folder, commit_message="Upload a model of unheard"))
    except Exception as error:  # of the network, or of the account
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"the upload to {repo} failed ({reason:.300}); log in with hf auth login, or set HF_TOKEN, and check the"
            " name"
        ) from error
