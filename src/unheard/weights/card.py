"""The model card of a model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unheard.audio.frontend import Statistics
from unheard.model.sizes import resolve_sizes
from unheard.recipes.recipe import Recipe

MOST_LABELS = 10  # classes that are listed; our choice


def model_card(
    recipe: Recipe,
    statistics: Statistics,
    source: str,
    licence: str,
    trained: Mapping[str, Any],
    notes: Sequence[str],
    labels: Sequence[str] = (),
) -> str:
    """Return a Markdown description of the weights and their use; ``labels`` are the classes of a fine-tuned model."""
    size, model, frontend = resolve_sizes(recipe.model), recipe.model, recipe.frontend
    seconds = model.frames * frontend.hop_size / frontend.sample_rate
    rows = {
        "recipe": f"{recipe.name}{f' ({recipe.paper})' if recipe.paper else ''}",
        "encoder": f"ViT, width {size.embed_dim}, {size.depth} blocks, {size.num_heads} heads",
        "input": (
            f"{frontend.sample_rate} Hz mono, {frontend.n_mels} mel bands {frontend.f_min:g}-{frontend.f_max:g} Hz, hop"
            f" {1000 * frontend.hop_size / frontend.sample_rate:g} ms, windows of {model.frames} frames"
            f" ({seconds:.2f} s)"
        ),
        "patches": f"{model.patch_size[0]} mel bands x {model.patch_size[1]} frames",
        "statistics": f"mean {_brief(statistics.mean)}, deviation {_brief(statistics.std)}",
        **(
            {"classes": f"{len(labels)}: {', '.join(labels[:MOST_LABELS])}{', ...' * (len(labels) > MOST_LABELS)}"}
            if labels
            else {}
        ),
        "source": source or "-",
        "licence of the weights": licence or "set by the person who trained them",
        **{key.replace("_", " "): _entry(value) for key, value in trained.items()},
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    remarks = "".join(f"\n- {note}" for note in notes)
    classify = 'dict(zip(model.labels, model.classify("sound.wav")))\n' if labels else ""
    return (
        f"# {recipe.name}\n\nAn audio encoder made with `unheard`.\n\n| | |\n|---|---|\n{table}\n{remarks}\n\n"
        '```python\nimport unheard\n\nmodel = unheard.load("path/to/this/folder")\nmodel.embed("sound.wav").scene\n'
        f"{classify}```\n"
    )


def _entry(value: Any) -> str:
    """Return a fact about the training as the text of a cell; a table of scores as ``name value`` pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_entry(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _brief(values: Sequence[float]) -> str:
    return f"{values[0]:.4f}" if len(values) == 1 else f"{len(values)} bands, first {values[0]:.4f}"
