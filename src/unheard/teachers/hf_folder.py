"""Folders that ``save_pretrained`` of transformers wrote: read and checked here, before transformers builds anything.

    config.json                 sizes and the kind of the model
    preprocessor_config.json    sample rate, spectrogram and scaling of its input
    model.safetensors           weights; or the parts that model.safetensors.index.json lists

Such a folder comes from a stranger. Weights are read from safetensors only: ``pytorch_model.bin`` is a pickle, which
could run code. Code that a folder brings (``auto_map``) is never run. Sizes are compared with the weights before
anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from unheard.audio.limits import RATES
from unheard.errors import CheckpointError, UnheardError, require, shown
from unheard.teachers.teacher import disable_hf_progress
from unheard.weights.comparison import refuse_not_finite
from unheard.weights.plausible import printable
from unheard.weights.tensors import read_tensors

CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
REMOTE_CODE = ("auto_map", "trust_remote_code")
LARGEST = 10_000_000  # a size up to this one costs at most 40 MB where transformers allocates before it is compared
SPARE = 1_000_000  # parameters that a configuration may have beyond the weights: those that only training needs
PREPROCESSOR_LIMITS = {
    **{"feature_size": 1024, "num_mel_bins": 1024, "n_fft": 65536, "fft_window_size": 65536, "hop_length": 65536},
    **{"chunk_length": 600, "max_length_s": 600, "max_length": 100_000, "nb_max_samples": 600 * RATES[1]},
    **{"sampling_rate": RATES[1], "n_samples": 600 * RATES[1], "nb_max_frames": 100_000, "nb_frequency_bins": 65536},
}
"""Largest plausible values of a preprocessor file; its arrays have these sizes (our choice)."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class HfFolder:
    """A folder of transformers: the contents of its two JSON files.

    Parameters
    ----------
    folder : Path
    config, preprocessor : dict
        Contents of ``config.json`` and ``preprocessor_config.json``.
    """

    folder: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]

    @property
    def model_type(self) -> str:
        """Return transformers' name of the architecture."""
        return str(self.config.get("model_type"))

    def extractor(self, kind: Any) -> Any:
        """Return the feature extractor of the class ``kind`` with the values of the preprocessor file.

        Raises
        ------
        CheckpointError
            When the file describes another feature extractor, or its values cannot be used.
        """
        given = self.preprocessor.get("feature_extractor_type", kind.__name__)
        if given != kind.__name__:
            raise CheckpointError(
                f"{self.folder / PREPROCESSOR} describes a {printable(str(given))}, and a model of the type"
                f" {self.model_type} needs a {kind.__name__}; copy the file that belongs to the weights"
            )
        for name, most in PREPROCESSOR_LIMITS.items():
            value = self.preprocessor.get(name, 1)
            if isinstance(value, int | float) and not 0 < value <= most:
                raise CheckpointError(
                    f"{self.folder / PREPROCESSOR} has {name} {value}; it must be above 0 and at most {most}"
                )
        return self._with_transformers(PREPROCESSOR, lambda: kind.from_dict(dict(self.preprocessor)))

    def model(self, kind: Any, prefix: str = "", optional: tuple[str, ...] = ()) -> Any:
        """Build a model of transformers in float32 and load its weights.

        Parameters
        ----------
        kind : class
            A ``PreTrainedModel`` of transformers.
        prefix : str
            Only the weights of this part are read, such as ``encoder.``; it is removed from their names.
        optional : tuple of str
            Beginnings of the names of weights that may be missing.

        Raises
        ------
        CheckpointError
            When weights are missing, damaged, not finite, or do not fit the configuration.
        """
        tensors = self._tensors()
        own = {
            name.removeprefix("model.").removeprefix(prefix) if prefix else name: value
            for name, value in tensors.items()
            if not prefix or name.removeprefix("model.").startswith(prefix)
        }
        refuse_not_finite(own, str(self.folder))
        config = self._with_transformers(CONFIG, self._config)
        self._refuse_larger(kind, config, own)
        with _quiet():
            model, loaded = self._with_transformers(
                CONFIG,
                lambda: kind.from_pretrained(
                    None,
                    config=config,
                    state_dict=own,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # they are an error below, which names them
                ),
            )
        other = {each if isinstance(each, str) else each[0] for each in loaded["mismatched_keys"]}
        wrong = sorted(name for name in other | set(loaded["missing_keys"]) if not name.startswith(optional or ("\0",)))
        if wrong:
            more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
            raise CheckpointError(
                f"the weights of {self.folder} do not fit its configuration: {', '.join(wrong[:6])}{more} missing or of"
                " another shape; copy the folder again"
            )
        return model.eval()

    def _config(self) -> Any:
        """Return transformers' configuration; keys that choose implementations or packages are left out."""
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        chosen = ("attn_implementation", "experts_implementation", "quantization_config", "use_kernels")
        values = {name: value for name, value in self.config.items() if not name.startswith("_") and name not in chosen}
        return CONFIG_MAPPING[self.model_type].from_dict(values)

    def _refuse_larger(self, kind: Any, config: Any, tensors: Mapping[str, Tensor]) -> None:
        """Refuse a configuration that describes a larger model than the weights; nothing of its size is allocated."""
        elements = sum(value.numel() for value in tensors.values())
        for name, value in _integers(self.config):
            most = len(tensors) if "layers" in name or "depths" in name else max(elements, LARGEST)
            if value > most:
                raise CheckpointError(
                    f"the weights of {self.folder} do not fit its configuration: {name} is {value}, which requires"
                    f" more than their {elements} numbers in {len(tensors)} tensors"
                )

        def sketch() -> nn.Module:
            with torch.device("meta"):
                built: nn.Module = kind(config)
            return built

        needed = sum(each.numel() for each in self._with_transformers(CONFIG, sketch).parameters())
        if needed > elements + SPARE:
            raise CheckpointError(
                f"the weights of {self.folder} do not fit its configuration: it describes {needed} parameters, and"
                f" they hold {elements}"
            )

    def _tensors(self) -> dict[str, Tensor]:
        """Return the weights by name, from one safetensors file or from all parts."""
        files = [WEIGHTS]
        if not (self.folder / WEIGHTS).is_file() and (self.folder / INDEX).is_file():
            parts = _json(self.folder / INDEX).get("weight_map")
            files = sorted({str(part) for part in parts.values()}) if isinstance(parts, dict) else []
            if not files or any(Path(part).name != part for part in files):
                raise CheckpointError(f"{self.folder / INDEX} lists no weight files of its own folder; copy it again")
        if missing := [part for part in files if not (self.folder / part).is_file()]:
            pickled = [each.name for each in sorted(self.folder.glob("*.bin"))]
            reason = f"; {pickled[0]} is a pickle, which could run code, and is not opened" if pickled else ""
            raise CheckpointError(
                f"{self.folder} has no {missing[0]}{reason}; only weights in safetensors are accepted: copy that"
                " file, or write it with transformers' save_pretrained"
            )
        tensors: dict[str, Tensor] = {}
        for part in files:
            tensors |= read_tensors(self.folder / part)
        return tensors

    def _with_transformers(self, file: str, call: Callable[[], Result]) -> Result:
        """Return the result of a call of transformers on the content of ``file``; its errors become one line."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about filters and packages, which the user cannot change
                return call()
        except UnheardError:
            raise
        except Exception as error:  # transformers raises anything on values that it does not expect
            reason = printable(" ".join(str(error).split()), 300)
            raise CheckpointError(
                f"transformers cannot use {self.folder / file} ({type(error).__name__}: {reason}); give a folder that"
                " save_pretrained wrote"
            ) from error


def read_hf_folder(folder: Path) -> HfFolder:
    """Read the two JSON files of a folder of transformers.

    Raises
    ------
    CheckpointError
        When the folder or a file is missing, is not JSON, or asks for code of its own.
    UnheardError
        When transformers is not installed.
    """
    require("transformers", "hf")
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder}; give a folder that transformers' save_pretrained wrote")
    source = HfFolder(folder, _json(folder / CONFIG), _json(folder / PREPROCESSOR))
    for file, content in ((CONFIG, source.config), (PREPROCESSOR, source.preprocessor)):
        if wanted := [name for name in REMOTE_CODE if content.get(name)]:
            raise CheckpointError(
                f"{folder / file} has {wanted[0]}: the model needs code from its folder or from the internet, which is"
                " never run; give a model whose type is part of transformers"
            )
    if not isinstance(source.config.get("model_type"), str):
        raise CheckpointError(f"{folder / CONFIG} has no model_type; give a folder that save_pretrained wrote")
    return source


def fingerprint(settings: object, model: nn.Module) -> str:
    """Return 16 hexadecimal digits of a SHA-256 over settings and weights."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def mel_centres(low: float, high: float, bands: int, scale: str) -> list[float]:
    """Return the centres of mel bands in Hz; ``scale`` is transformers' name of the mel scale."""
    from transformers.audio_utils import hertz_to_mel, mel_to_hertz

    first, last = (hertz_to_mel(float(edge), scale) for edge in (low, high))
    edges = np.linspace(first, last, bands + 2)
    return [float(value) for value in mel_to_hertz(edges, scale)[1:-1]]


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        what = {CONFIG: "describes the model", PREPROCESSOR: "describes its input"}.get(file.name, "lists the weights")
        raise CheckpointError(
            f"{file.parent} has no {file.name} that can be read, which {what}; copy it from where the weights are"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not JSON ({shown(error)}); copy it from where the weights are") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds no JSON object; copy it from where the weights are")
    return content


def _integers(value: object, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield every integer of a configuration with its key."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _integers(each, str(key))
    elif isinstance(value, list):
        for each in value:
            yield from _integers(each, name)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a progress bar and lists of weights; missing ones are an error here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    disable_hf_progress()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
