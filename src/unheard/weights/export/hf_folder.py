"""Folders that Hugging Face transformers loads; `open_hf` reads them back.

    config.json              sizes, front end, statistics, classes; and our own configuration under "unheard"
    model.safetensors        weights of the encoder and of the classifier
    preprocessor_config.json sample rate
    README.md                model card with front matter
    modeling_unheard.py      optional: the code, for use without this package

They are written without transformers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from unheard.audio.frontend import Statistics
from unheard.config import from_json, to_json
from unheard.errors import CheckpointError, ConfigError
from unheard.files import replace_folder
from unheard.model.classifier import ClassifierConfig
from unheard.model.sizes import resolve_sizes, resolved
from unheard.recipes.learner import grid_of
from unheard.recipes.recipe import read_recipe
from unheard.version import __version__
from unheard.weights.card import model_card
from unheard.weights.checkpoint import CLASSIFIER, FORMAT, WEIGHTS, Provenance, SavedModel, build_for
from unheard.weights.export.bundle import CODE, bundled_code
from unheard.weights.export.metadata import check_exportable
from unheard.weights.names import OURS, hf_model_type
from unheard.weights.plausible import printable
from unheard.weights.tensors import read_tensors

ENCODER = "model.encoder."  # prefix of its weights in a model folder
BASE = "unheard."  # prefix of the encoder's model within a classifier, as transformers names it
STANDARD = ("labels", "activation", "thresholds")
"""Fields of a classifier that are id2label and problem_type of transformers; thresholds stand with their weights."""
RETRAINED = "The thresholds were left out: the classifier was changed after the export."
AUTO = {"AutoConfig": "UnheardConfig", "AutoModel": "UnheardModel"}


def save_hf(saved: SavedModel, folder: Path, *, code: bool = False) -> None:
    """Write a Hugging Face folder; an existing export is replaced only when the new one is complete.

    Parameters
    ----------
    code : bool
        Also write `bundled_code`, for ``trust_remote_code=True`` without this package.

    Raises
    ------
    ConfigError
        When the folder holds anything but an earlier export, or the model cannot be exported.
    """
    check_exportable(saved)
    if folder.exists() and not is_hf(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an exported folder, so it is not replaced; choose another -o, or delete it")

    def write(place: Path) -> None:
        config, extractor = _config(saved, code), _extractor(saved, code)
        (place / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (place / "preprocessor_config.json").write_text(json.dumps(extractor, indent=2) + "\n", encoding="utf-8")
        save_file(_tensors(saved), place / WEIGHTS, metadata={"format": "pt"})
        (place / "README.md").write_text(hf_card(saved, code), encoding="utf-8")
        if code:
            (place / CODE).write_text(bundled_code(), encoding="utf-8")

    try:
        replace_folder(folder, write)
    except SafetensorError as error:
        raise CheckpointError(f"{folder} cannot be written ({error}); free some space or choose another -o") from error


def is_hf(folder: Path) -> bool:
    """Return whether a folder was written by `save_hf`."""
    return hf_model_type(folder) == OURS


@torch.inference_mode(mode=False)
def open_hf(folder: Path) -> SavedModel:
    """Read a folder of `save_hf`, also after transformers has trained and saved it.

    Raises
    ------
    CheckpointError
        When it was written by a newer version, or its parts do not fit.
    """
    config = json.loads((folder / "config.json").read_bytes())
    ours = config.get("unheard")
    if not isinstance(ours, dict) or not isinstance(ours.get("format"), int):
        raise CheckpointError(f"{folder}/config.json has no section unheard; export the model again")
    if ours["format"] > FORMAT:
        raise CheckpointError(
            f"{folder} was written by unheard {printable(str(ours.get('version')))}, newer than this one"
            f" ({__version__}); upgrade unheard"
        )
    try:
        recipe, statistics = read_recipe(ours["recipe"]), from_json(Statistics, ours["statistics"])
        _refuse_unfit(statistics, recipe.frontend.n_mels)
        provenance = replace(from_json(Provenance, ours["provenance"]), encoder_only=True)
        tensors = {
            name if name.startswith(CLASSIFIER) else "model." + name.removeprefix(BASE): value
            for name, value in read_tensors(folder / WEIGHTS).items()
        }
        head = from_json(ClassifierConfig, _head(config)) if _classifies(config) else None
        if head is not None and (stored := ours.get("thresholds")):
            if stored["weights"] == _digest(tensors):
                head = replace(head, thresholds=tuple(stored["values"]))
            else:
                provenance = replace(provenance, notes=(*provenance.notes, RETRAINED))
        learner, classifier = build_for(recipe, head, tensors, str(folder), encoder_only=True)
    except (KeyError, ConfigError) as error:
        raise CheckpointError(
            f"{folder}/config.json does not describe a model of this version: {printable(str(error))}"
        ) from error
    return SavedModel(learner, recipe, statistics, provenance, classifier).frozen()


def hf_card(saved: SavedModel, code: bool = False) -> str:
    """Return the model card: front matter, the card of a model folder, and use with transformers."""
    origin, labels = saved.provenance, () if saved.classifier is None else saved.classifier.config.labels
    task = "audio-classification" if labels else "feature-extraction"
    licence = ["license: unknown"]
    if origin.licence:  # the Hub has identifiers of its own for common licences
        known = origin.licence == "Apache-2.0"
        licence = ["license: apache-2.0"] if known else [f"license: other\nlicense_name: {json.dumps(origin.licence)}"]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {task}",
        *licence,
        "tags:",
        "- audio",
        "- unheard",
        *_model_index(saved),
        "---",
    ]
    card = model_card(
        saved.recipe, saved.statistics, origin.source, origin.licence, origin.trained, origin.notes, labels
    )
    kind = "AutoModelForAudioClassification" if labels else "AutoModel"
    trust, ready = (", trust_remote_code=True", "") if code else ("", "import unheard.hf  # registers the model\n")
    use = (
        f"\nWith transformers:\n\n```python\n{ready}from transformers import AutoFeatureExtractor, {kind}\n\n"
        f'extractor = AutoFeatureExtractor.from_pretrained("path/to/this/folder"{trust})\n'
        f'model = {kind}.from_pretrained("path/to/this/folder"{trust})\n'
        'inputs = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")\n'
        f"model(**inputs).{'logits' if labels else 'pooler_output'}\n```\n"
    )
    if saved.classifier is not None and saved.classifier.config.activation == "sigmoid":
        use += (
            "\nThe labels are independent of each other. Versions of transformers before 5.23 use softmax for them. "
            'Pass the function with each call of a pipeline: `classifier(waveform, function_to_apply="sigmoid")`.\n'
        )
    return "\n".join(lines) + "\n\n" + card + use


def _model_index(saved: SavedModel) -> list[str]:
    """Return the validation scores of a fine-tuned model as the lines ``model-index`` of the front matter.

    The names are those of the Hub: https://huggingface.co/docs/hub/model-cards. Losses are no scores and left out.
    """
    validation = saved.provenance.trained.get("validation")
    scores = {name: value for name, value in validation.items() if name != "loss"} if validation else {}
    if saved.classifier is None or not scores:
        return []
    metrics = [{"type": name, "value": value, "name": f"validation {name}"} for name, value in scores.items()]
    result = {
        "task": {"type": "audio-classification"},
        "dataset": {"type": "labels-csv", "name": "validation clips of the table of labels", "split": "validation"},
        "metrics": metrics,
    }
    # JSON is YAML
    return ["model-index:", f"- {json.dumps({'name': saved.recipe.name, 'results': [result]})}"]


def _config(saved: SavedModel, code: bool) -> dict[str, Any]:
    recipe, head = saved.recipe, saved.classifier
    size, grid = resolve_sizes(recipe.model), grid_of(recipe)
    labels = () if head is None else head.config.labels
    kind = "UnheardModel" if head is None else "UnheardForAudioClassification"
    config: dict[str, Any] = {
        "model_type": OURS,
        "architectures": [kind],
        "dtype": "float32",
        "frontend": to_json(recipe.frontend),
        "encoder": to_json(resolved(recipe.model)),
        "mean": list(saved.statistics.mean),
        "std": list(saved.statistics.divisors()),
        "hidden_size": size.embed_dim * grid.freq,
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads,
        "sampling_rate": recipe.frontend.sample_rate,
        "unheard": {
            "format": FORMAT, "version": __version__, "recipe": to_json(recipe),
            "statistics": to_json(saved.statistics), "provenance": to_json(saved.provenance),
        },
    }  # fmt: skip
    if head is not None and head.config.thresholds:
        stored = {"values": list(head.config.thresholds), "weights": _digest(_tensors(saved))}
        config["unheard"]["thresholds"] = stored
    if head is not None:
        several = head.config.activation == "sigmoid"
        config |= {
            "classifier": {name: value for name, value in to_json(head.config).items() if name not in STANDARD},
            "id2label": {str(index): label for index, label in enumerate(labels)},
            "label2id": {label: index for index, label in enumerate(labels)},
            "problem_type": f"{'multi' if several else 'single'}_label_classification",
        }
    if code:
        classes = AUTO | {"AutoModelForAudioClassification": "UnheardForAudioClassification"}
        config["auto_map"] = {auto: f"{Path(CODE).stem}.{name}" for auto, name in classes.items()}
    return config


def _extractor(saved: SavedModel, code: bool) -> dict[str, Any]:
    name = "UnheardFeatureExtractor"
    values = {
        "feature_extractor_type": name, "sampling_rate": saved.recipe.frontend.sample_rate, "feature_size": 1,
        "padding_value": 0.0, "padding_side": "right", "return_attention_mask": True,
    }  # fmt: skip
    return values | ({"auto_map": {"AutoFeatureExtractor": f"{Path(CODE).stem}.{name}"}} if code else {})


def _tensors(saved: SavedModel) -> dict[str, Tensor]:
    base = "" if saved.classifier is None else BASE
    encoder = saved.learner.model.encoder.state_dict()
    found = {f"{base}encoder.{name}": value for name, value in encoder.items()}
    if saved.classifier is not None:
        found |= {CLASSIFIER + name: value for name, value in saved.classifier.state_dict().items()}
    return {name: value.detach().cpu().contiguous().clone() for name, value in found.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the weights of the classifier: thresholds hold for these weights only."""
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if name.startswith(CLASSIFIER)):
        digest.update(tensors[name].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _classifies(config: dict[str, Any]) -> bool:
    return config.get("architectures") == ["UnheardForAudioClassification"]


def _head(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the classifier, also of one that transformers trained."""
    names, head = config.get("id2label"), config.get("classifier", {})
    if not isinstance(names, dict) or not isinstance(head, dict):
        raise ConfigError("id2label and classifier must be JSON objects")
    numbers = [str(number) for number in range(len(names))]
    if set(names) != set(numbers) or len({repr(name) for name in names.values()}) < len(names):
        raise ConfigError("id2label must have the numbers of the classes, from 0, and a different name for each")
    several = config.get("problem_type") == "multi_label_classification"
    activation = {"activation": "sigmoid" if several else "softmax"}
    return {**head, "labels": [names[number] for number in numbers], **activation}


def _refuse_unfit(statistics: Statistics, bands: int) -> None:
    """Refuse statistics that do not fit the front end or are not numbers."""
    if len(statistics.mean) not in (1, bands) or not np.isfinite([*statistics.mean, *statistics.std]).all():
        raise ConfigError(f"the statistics must be finite numbers, one or {bands} of each")
