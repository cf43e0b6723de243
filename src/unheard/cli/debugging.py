"""``unheard debug``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from unheard.cli.shell import DONE, DeviceOption, Json, app, emit, table, verb
from unheard.cli.training import run_callbacks

debug = App(
    name="debug",
    help="Debug a run.",
    help_epilogue="Example:\n  unheard debug replay runs/first",
)
app.command(debug)


@verb("unheard debug replay runs/first", debug)
def replay(
    run: Path,
    /,
    *,
    step: Annotated[int | None, Parameter(name="--step", help="Recorded step to replay. Default: the latest.")] = None,
    no_code: bool = False,
    device: DeviceOption = "auto",
    json: Json = False,
) -> int:
    """Replay a step whose loss was not finite, and print the losses by objective and by window.

    The step is read from bad-step-XXXXXXXX/ of the run. The run is not changed.

    Parameters
    ----------
    run
        A pre-training or fine-tuning run, or one model of a fine-tuning run of several.
    no_code
        Refuse a run that needs to execute a recipe file.
    """
    from unheard.finetuning import replay as finetuning
    from unheard.remote.reading import copied_folder
    from unheard.training import replay as pretraining

    with copied_folder(run) as folder:
        if finetuning.root_of(folder):
            result = finetuning.replay(folder, step, device=device, report=run_callbacks())
        else:
            result = pretraining.replay(folder, step, no_code=no_code, device=device, report=run_callbacks())
    names = list(result.windows[0].losses)
    rows = [
        (
            window.file,
            f"{window.start_seconds:.2f} s",
            f"{window.largest:.3g}",
            *(f"{window.losses[name]:.4g}" for name in names),
        )
        for window in sorted(result.windows, key=lambda window: window.finite)
    ]
    bad = list(dict.fromkeys(window.file for window in result.windows if not window.finite))
    lines = [
        f"step {result.step}: {', '.join(f'{name} {value:.4g}' for name, value in result.losses.items())}",
        "" if result.weights_finite else "the weights are already not finite before this step",
        *table(("file", "start", "largest input", *names), rows),
        f"not finite: {', '.join(bad)}" if bad else "every window has a finite loss in a batch of one",
    ]
    emit([line for line in lines if line], asdict(result), json)
    return DONE
