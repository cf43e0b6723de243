"""``unheard serve``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from unheard.addresses import named
from unheard.cli.shell import DONE, DeviceOption, log, verb
from unheard.errors import ConfigError

if TYPE_CHECKING:
    from unheard.serving.guard import Address


@verb("unheard serve unheard-tiny my_audio/")
def serve(
    *given: Annotated[str, Parameter(name="[MODEL] [FOLDER]")],
    labels: Path = Path("labels.csv"),
    port: int = 8000,
    host: str = "127.0.0.1",
    device: DeviceOption = "auto",
) -> int:
    """Open a local page for a model: reconstruction, map, search, labels and detections. Ctrl+C ends it.

    Parameters
    ----------
    given
        MODEL: a run, a model folder or a built-in name; default: unheard-tiny. FOLDER: sound files for the map, the
        search and the labels, also at an address; they are embedded in the background, and the embeddings are cached.
    labels
        Table in which the page stores labels of FOLDER. Classifiers are saved next to it.
    port
        Port of the page.
    host
        Address to bind. Any other than the loopback interface requires a token, which is part of the printed address.
    """
    from unheard.serving.server import serve as run
    from unheard.weights.built_in import DEFAULT

    model, folder = _model_and_folder(given)
    log(f"model: {model or DEFAULT}; folder: {named(folder) if folder else 'none'}")
    run(model or DEFAULT, folder, labels=labels, host=host, port=port, device=device, ready=_announce)
    return DONE


def _announce(address: Address) -> None:
    log(f"open {address.url}   (Ctrl+C ends the server)")
    if address.token:
        log("every client on the network that has this address can use the server; do not share it")


def _model_and_folder(given: Sequence[str]) -> tuple[str | None, Path | None]:
    """Return the model and the folder of the arguments. A single one is a model if its name or its folder is one."""
    from unheard.remote.listing import exists
    from unheard.weights.built_in import is_model_name

    if len(given) > 2:
        raise ConfigError(f"give at most one model and one folder; got {len(given)} arguments")
    if len(given) == 2:
        return given[0], Path(given[1])
    if not given:
        return None, None
    model = is_model_name(given[0]) or not exists(given[0])
    return (given[0], None) if model else (None, Path(given[0]))
