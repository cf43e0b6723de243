"""Parity with MaskSpec: front end with its varied bands, masked passes, gradients, fine-tuned networks, schedules and
layer rates.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks.parity.compare import (
    Arrays,
    Checker,
    Comparison,
    arrays,
    batch_of,
    complete,
    log_mel_tolerance,
    with_cls,
)
from unheard.audio.frontend import Statistics
from unheard.audio.kaldi import EMPHASIS, LOG_MEAN, LOG_SCALE, MASKSPEC, MaskSpecMel
from unheard.audio.presets import MASKSPEC_AUDIOSET
from unheard.config import override
from unheard.finetuning.learning_rates import decays, layer_scale
from unheard.model import masking
from unheard.objectives.reconstruct import Reconstruct
from unheard.recipes.learner import build
from unheard.training.optim import learning_rate
from unheard.weights.checkpoint import load_weights
from unheard.weights.layouts.mae import Released, rename
from unheard.weights.layouts.maskspec import read, recipe_of

NETWORK = {"atol": 1e-5, "rtol": 1e-5}
HEADS, DECODER_HEADS = "model.num_heads=3", "model.decoder_num_heads=4"  # shapes do not tell
NORMED, BANDS = {"atol": 2e-3}, {"atol": 5e-5}  # README of the folder
MODELS = ("mae_small_normpix", "mae_small_rawpix", "mae_full_grid")
TASKS = ("vit_gap", "vit_cls", "vit_gap_short_target", "vit_gap_resized")
JITTERED = (7, 15321)  # f_min and f_max of the stored jittered filter bank, Hz


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "mae_full_grid.npz").is_file() and (folder / "optim.json").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder."""
    front = arrays(folder / "frontend.npz")
    statistics = Statistics(tuple(front["frame_mean"].tolist()), tuple(front["frame_std"].tolist()))
    _frontend(front, statistics, table)
    for name in MODELS:
        _model(name, folder, statistics, table)
    for name in TASKS:
        _task(name, folder, table)
    _optimiser(json.loads((folder / "optim.json").read_text()), table)


def _frontend(stored: Arrays, statistics: Statistics, table: Comparison) -> None:
    front, check = MaskSpecMel(MASKSPEC), Checker("frontend", stored, table)
    waves = stored["waveform"].astype(np.float32)
    spec = front(torch.from_numpy(waves))
    check("preemphasis_head", (waves[:, 1:] - np.float32(EMPHASIS) * waves[:, :-1])[:, :64], atol=1e-6)
    check("window", front.window, atol=1e-6)
    check("mel_filterbank", front.mel[:, :-1], **BANDS)
    low, high = JITTERED
    draws = torch.tensor([[(low + 0.5) / MASKSPEC.f_min_jitter, (16000 - high + 0.5) / (2 * MASKSPEC.f_max_jitter)]])
    table.check("frontend/edges of the varied bands", torch.cat(front.edges(draws)), JITTERED)
    if front.jitter is not None:
        check("mel_filterbank_fmin7_fmax15321", front.jitter(draws)[0, :, :-1], **BANDS)
    near = log_mel_tolerance(stored["logmel"], LOG_SCALE)
    check("logmel", spec, near)
    table.check(
        "frontend/logmel of one clip on a core",
        np.stack([front.spectrogram_cpu(wave).T for wave in waves]),
        stored["logmel"],
        near,
    )
    tape = np.concatenate([front.segment(wave, 50, 100) for wave in waves])
    rows = torch.arange(100) + torch.tensor([[0], [len(tape) // 2 // MASKSPEC.hop_size]])
    windows = front.spectrograms_from_segments(torch.from_numpy(tape), rows)
    table.check("frontend/logmel of windows", windows, stored["logmel"][:, :, 50:150], near[:, :, 50:150])
    check("logmel_normed", statistics.normalise(spec), **NORMED)
    check("frame_mean", MASKSPEC_AUDIOSET.mean, rtol=1e-5)
    check("frame_std", MASKSPEC_AUDIOSET.std, rtol=1e-5)
    check("logmel_10s_shape", [1, MASKSPEC.n_mels, front.num_frames(10 * MASKSPEC.sample_rate)])
    for key in ("all_mean", "all_std"):
        check.skip(key, "a scalar alternative that no stored output was made with")
    table.check("frontend/scale of the logarithm", [LOG_MEAN, LOG_SCALE], [4.5, 5.0])
    check.complete({"waveform"})


def _model(name: str, folder: Path, statistics: Statistics, table: Comparison) -> None:
    """One masked pass, everything derived from it, and its gradients."""
    keys, stored = load_file(folder / f"{name}.state.safetensors"), arrays(folder / f"{name}.npz")
    norm_pix = bool(stored["norm_pix_loss"])
    ratio = float(stored["mask_ratio"])
    recipe = override(
        recipe_of(keys),
        [HEADS, DECODER_HEADS, f"model.mask_ratio={ratio}", f"objectives.reconstruct.norm_pix={json.dumps(norm_pix)}"],
    )
    learner = build(recipe, seed=0).eval()
    load_weights(learner, rename(keys, cls=True), name)
    check = Checker(name, stored, table)
    spec, noise = torch.from_numpy(stored["input"][:, 0]).float(), torch.from_numpy(stored["noise"])
    mask, patches = masking.random(noise, ratio), learner.grid.patchify(spec)
    out = learner.model(patches, mask)
    head = cast(Reconstruct, learner.objectives["reconstruct"])
    pred, loss = head.head(out.decoded), head(out, batch_of(spec, noise))
    check("grid", [learner.grid.freq, learner.grid.time])
    check("norm_pix_loss", head.norm_pix)
    check("mask_ratio", recipe.model.mask_ratio)
    check("mask", mask.hidden().float())
    check("ids_restore", torch.cat([mask.keep, mask.hide], dim=1).argsort(dim=1))
    check("latent", with_cls(out.visible, out.cls), **NETWORK)
    check("pred", pred[:, stored.get("pred_token_index", np.arange(pred.shape[1]))], **NETWORK)
    check("target_patches", patches[:, :8], atol=1e-6)
    check("loss", loss, **NETWORK)
    whole = with_cls(*learner.model.encoder(patches))
    check("full_encode", whole[:, stored.get("full_encode_token_index", np.arange(whole.shape[1]))], **NETWORK)
    loss.backward()
    for key in [key for key in stored if key.startswith("grad.")]:
        ((ours, value),) = rename({key.removeprefix("grad."): torch.from_numpy(stored[key])}, cls=True).items()
        table.check(
            f"{name}/{key}", dict(learner.named_parameters())[ours].grad, value, atol=1e-5 * float(value.abs().max())
        )
    if "waveform" in stored:
        _whole_way(check, stored, statistics)
    gradients = {key for key in stored if key.startswith("grad.")}
    check.complete({"input", "noise", "waveform", "pred_token_index", "full_encode_token_index", *gradients})


def _whole_way(check: Checker, stored: Arrays, statistics: Statistics) -> None:
    """From 10 s of sound to the input of the network."""
    spec = statistics.normalise(MaskSpecMel(MASKSPEC)(torch.from_numpy(stored["waveform"].astype(np.float32))))[
        :, None, :, :992
    ]
    check("logmel_normed_fp32_cols", spec[..., ::62], **NORMED)
    check.table.check(
        f"{check.title}/input from the waveform", spec, stored["input"], atol=2e-3, rtol=1e-3
    )  # stored in half precision


def _task(name: str, folder: Path, table: Comparison) -> None:
    """A fine-tuned network: pooled embedding and logits."""
    file, stored = folder / f"{name}.state.safetensors", arrays(folder / f"{name}.npz")
    model, check = read(Released(file, load_file(file), file.name), [HEADS]), Checker(name, stored, table)
    classifier, encoder, grid = model.classifier, model.learner.model.encoder, model.learner.grid
    spec = torch.from_numpy(stored["input"])
    size = stored["img_size"].tolist()
    if spec.shape[-1] != size[1]:
        spec = F.interpolate(spec, size=size, mode="bicubic", align_corners=True)
        check("resized", spec, **NETWORK)
    columns = int(stored["target_size"][1]) // grid.patch_size[1]
    keep = None if columns >= grid.time else grid.crop_time(columns).expand(len(spec), -1)
    if classifier is None:
        table.missing(f"{name}/logits")
        return
    pooled = classifier.pool(*encoder(grid.patchify(spec[:, 0]), keep))
    check("embedding", classifier.norm(pooled), **NETWORK)
    check("logits", classifier(pooled), **NETWORK)
    check("global_pool", classifier.config.pool == "mean")
    table.check(f"{name}/frames that patches cover", grid.frames, size[1] // grid.patch_size[1] * grid.patch_size[1])
    check.complete({"input", "target_size", "img_size", "resized"})


def _optimiser(stored: dict[str, Any], table: Comparison) -> None:
    """Learning rates over fractional epochs, and the rate and decay of every parameter in fine-tuning."""
    for name in ("lr_pretrain", "lr_finetune"):
        config, rates = stored[name]["cfg"], stored[name]["lr"]
        ours = [
            learning_rate(
                float(epoch) / config["epochs"],
                config["lr"],
                config["warmup_epochs"] / config["epochs"],
                config["min_lr"],
            )
            for epoch in rates
        ]
        table.check(f"optim/{name}", ours, list(rates.values()), atol=1e-12, rtol=1e-9)
    keys, wanted = stored["lrd_table"], stored["weight_decay"]
    names = {key: _ours(key) for key in keys}
    scales = [layer_scale(names[key], stored["depth"], stored["layer_decay"]) for key in keys]
    table.check("optim/lrd_table: lr_scale", scales, [row["lr_scale"] for row in keys.values()], rtol=1e-12)
    decayed = [wanted * decays(names[key], 1 if key.endswith("bias") or "norm" in key else 2) for key in keys]
    table.check("optim/lrd_table: weight_decay", decayed, [row["weight_decay"] for row in keys.values()])
    exempt = [
        key for key in stored["no_weight_decay"] if key != "dist_token"
    ]  # a token of another network that the reference names
    table.check("optim/no_weight_decay", [decays(_ours(key), 2) for key in exempt], [False] * len(exempt))
    complete(
        "optim",
        stored,
        {"lr_pretrain", "lr_finetune", "lrd_table", "no_weight_decay", "depth", "layer_decay", "weight_decay"},
        table,
    )


def _ours(key: str) -> str:
    """Our name of a parameter of the fine-tuning network."""
    if key.startswith(("head.", "fc_norm.")):
        return key
    (name,) = rename({key: torch.zeros(1, 1, 1)}, cls=True)
    return name
