"""Parity with MSM-MAE and M2D: front end, tables, masked passes, training steps, features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

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
from unheard import hear
from unheard.audio.frontend import MSM_MAE_16K, MSM_MAE_32K, LogMel, Statistics
from unheard.embedding.embedder import Model, Options
from unheard.embedding.hear_api import Published
from unheard.model import masking
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.patches import Grid, sincos_1d, sincos_2d
from unheard.model.sizes import ModelConfig
from unheard.objectives.latents import LatentsConfig, PredictLatents
from unheard.objectives.reconstruct import Reconstruct, ReconstructConfig
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import ObjectivesConfig, Recipe, TrainingConfig
from unheard.training.optim import build_optimiser, learning_rate
from unheard.weights.checkpoint import Provenance, SavedModel, load_weights
from unheard.weights.layouts.ntt import named

M2D = Statistics((-7.1,), (4.2,))
NETWORK = {"atol": 5e-5, "rtol": 1e-4}  # README of the folder
LOSS = {"rtol": 1e-5}
TRAINED = {"atol": 1e-4}
QUIRK = "optional: the reference's decoder shifts every visible token by one place in models without CLS"
RATIO = {"m2d": 0.7}


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "configs.json").is_file() and (folder / "pos_embed.npz").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder."""
    configs = json.loads((folder / "configs.json").read_text())
    front = arrays(folder / "frontend.npz")
    _frontend(front, table)
    _positions(arrays(folder / "pos_embed.npz"), table)
    _data_and_schedule(arrays(folder / "data_and_schedule.npz"), front, table)
    for name, config in configs.items():
        learner = _learner(folder, name, config)
        _model(name, learner, arrays(folder / f"model_{name}.npz"), folder, table)
        if (folder / f"runtime_{name}.npz").is_file():
            _runtime(name, learner, arrays(folder / f"runtime_{name}.npz"), front, table)


def _frontend(stored: Arrays, table: Comparison) -> None:
    mel, wide = LogMel(MSM_MAE_16K), LogMel(MSM_MAE_32K)
    both = np.stack([stored["wav"], stored["wav_b"]])
    outputs = {
        "log_mel": mel(torch.from_numpy(both)),
        "mel_power": mel(torch.from_numpy(both)).exp() - MSM_MAE_16K.log_offset,
        "log_mel_odd": mel(torch.from_numpy(stored["wav_odd"])[None]),
        "log_mel_quiet": mel(torch.from_numpy(stored["wav_quiet"])[None]),
        "log_mel_silence": mel(torch.zeros(1, 1600)),
        "log_mel_32k": wide(torch.from_numpy(stored["wav_32k"])[None]),
        "mel_basis": mel.mel,
        "mel_basis_32k": wide.mel,
        "window": mel.window,
        "eps": np.float32(MSM_MAE_16K.log_offset),
    }
    inputs = {"wav", "wav_b", "wav_odd", "wav_quiet", "wav_32k"}
    for name, value in outputs.items():
        near, share = (log_mel_tolerance(stored[name]), 0.0) if "log_mel" in name else (1e-6, 3e-4)
        table.check(f"frontend/{name}", value, stored[name], near, share)
    fast = [mel.spectrogram_cpu(wav).T for wav in both]
    table.check("frontend/log_mel (fast path)", np.stack(fast), stored["log_mel"], log_mel_tolerance(stored["log_mel"]))
    complete("frontend", stored, outputs.keys() | inputs, table)


def _positions(stored: Arrays, table: Comparison) -> None:
    for name, value in stored.items():
        kind, shape, width, cls = name.split("_")
        dim = int(width[1:])
        if kind == "enc2d":
            freq, time = (int(n) for n in shape.split("x"))
            ours = sincos_2d(Grid(freq, time, (16, 16)), dim)
        else:
            ours = sincos_1d(int(shape), dim)
        padded = torch.cat([torch.zeros(1, dim), ours]) if cls == "cls" else ours
        table.check(f"pos_embed/{name}", padded, value, atol=1e-6)


def _data_and_schedule(stored: Arrays, front: Arrays, table: Comparison) -> None:
    spec = torch.from_numpy(front["log_mel"][:1])
    short = torch.nn.functional.pad(spec[:, :, :100], (0, 108))
    table.check("data/pad_short_100_to_208", M2D.normalise(short), stored["pad_short_100_to_208"], atol=3e-4)
    table.check("data/crop_long_to_208", M2D.normalise(spec[:, :, :208]), stored["crop_long_to_208"], atol=3e-4)
    rates = [learning_rate(epoch / 100, 6e-4, 0.1) for epoch in stored["lr_epochs"]]
    table.check("data/lr_values", rates, stored["lr_values"], atol=1e-12, rtol=1e-9)
    complete("data", stored, {"pad_short_100_to_208", "crop_long_to_208", "lr_values", "lr_epochs"}, table)


def _learner(folder: Path, name: str, config: dict[str, Any]) -> PretrainModule:
    """The stored model, in our classes."""
    model = ModelConfig(
        frames=config["input_size"][1],
        patch_size=tuple(config["patch_size"]),
        mask_ratio=RATIO.get(name, 0.75),
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        cls_token=config.get("use_cls_token", True),
        decoder_embed_dim=config["decoder_embed_dim"],
        decoder_depth=config["decoder_depth"],
        decoder_num_heads=config["decoder_num_heads"],
        decoder_positions=config["decoder_pos"],
    )
    keys = load_file(folder / f"state_{name}.safetensors")
    latents = any(key.startswith("target_") for key in keys)
    objectives = ObjectivesConfig(ReconstructConfig(weight=float(not latents)), LatentsConfig(weight=float(latents)))
    frontend = replace(MSM_MAE_16K, n_mels=config["input_size"][0])
    recipe = Recipe(
        name, frontend=frontend, model=model, objectives=objectives, training=TrainingConfig(weight_decay=0.05)
    )
    learner = build(recipe, seed=0)
    load_weights(learner, named(keys, recipe), name)
    if learner.model.teacher is not None:
        target = {
            key.removeprefix("target_").replace(".mlp.", "."): value
            for key, value in keys.items()
            if key.startswith("target_")
        }
        learner.model.teacher.transformer.load_state_dict(target)
    return learner


def _model(name: str, learner: PretrainModule, stored: Arrays, folder: Path, table: Comparison) -> None:
    """The masked pass and everything derived from it."""
    check = Checker(f"model_{name}", stored, table)
    spec = torch.from_numpy(stored["input"][:, 0])
    noise = torch.from_numpy(stored["noise"])
    mask = masking.random(noise, learner.recipe.model.mask_ratio)
    patches = learner.grid.patchify(spec)
    with torch.no_grad():
        out = learner.model(patches, mask)
    restore = torch.cat([mask.keep, mask.hide], dim=1).argsort(dim=1)
    check("mask", mask.hidden().float())
    check("ids_restore", restore)
    check("ids_keep", mask.keep)
    check("latent", with_cls(out.visible, out.cls), **NETWORK)
    check("target_patches", patches, atol=1e-6)
    with torch.no_grad():
        _unmasked(check, learner, patches)
        if learner.model.teacher is not None:
            _latents(check, learner, out, spec)
        elif learner.model.encoder.cls_token is not None:
            _pixels(check, learner, out, spec, noise)
    if learner.model.encoder.cls_token is not None:
        _gradients(check, learner, spec, noise)
        _six_steps(check, learner, folder, spec)
        _ema(check, learner)
    else:
        for key in [key for key in stored if key not in check.done | {"input", "noise", "train_noise", "train_lr"}]:
            check.skip(key, QUIRK)
    check.complete(
        {
            "input",
            "noise",
            "train_noise",
            "train_lr",
            *(k for k in stored if k.endswith("_mask") and k.startswith("pattern_")),
        }
    )


def _unmasked(check: Checker, learner: PretrainModule, patches: torch.Tensor) -> None:
    encoder = learner.model.encoder
    tokens = encoder.with_cls(encoder.tokens(patches))
    check("latent_full", encoder.transformer(tokens), **NETWORK)
    check("latent_full_layers_sample0", torch.stack(encoder.transformer.layers(tokens[:1])), **NETWORK)
    check("attention_last_layer_sample0", encoder.transformer.attention(tokens[:1]), **NETWORK)
    half = learner.grid.crop_time(learner.grid.time // 2).expand(len(patches), -1)
    check("short_input_latent", with_cls(*encoder(patches, half)), **NETWORK)


def _pixels(check: Checker, learner: PretrainModule, out: MaskedPass, spec: torch.Tensor, noise: torch.Tensor) -> None:
    """Reconstruction: predictions, losses at several ratios and patterns, figures' arrays."""
    grid, head = learner.grid, learner.objectives["reconstruct"]
    assert isinstance(head, Reconstruct)
    predicted = head.head(out.decoded)
    check("pred", predicted, **NETWORK)
    batch = batch_of(spec, noise)
    check("loss", head(out, batch), **LOSS)
    standardised = Reconstruct(ReconstructConfig(norm_pix=True), learner.model.decoder.embed_dim, grid.patch_dim)
    standardised.head = head.head
    check("loss_norm_pix", standardised(out, batch), **LOSS)
    hidden = out.mask.hidden()[..., None]
    pasted = grid.unpatchify(torch.where(hidden, head.spectrogram(out.decoded, out.patches), out.patches))[:1]
    check("recon_sample0", pasted, **NETWORK)
    check("errormap_sample0", (pasted - spec[:1, :, : grid.frames]).abs(), **NETWORK)
    for key in [key for key in check.stored if key.startswith("loss_ratio_")]:
        other = masking.random(noise, float(key.removeprefix("loss_ratio_")))
        check(key, head(learner.model(out.patches, other), batch), **LOSS)
    for kind in ("vertical", "horizontal", "chessboard"):
        if f"pattern_{kind}_loss" in check.stored:
            passed = learner.model(out.patches, masking.named_mask(kind, grid, noise, 0.5))
            shown = passed.mask.hidden()[0].reshape(check.stored[f"pattern_{kind}_mask"].shape).float()
            check(f"pattern_{kind}_mask", shown)
            check(f"pattern_{kind}_loss", head(passed, batch), **LOSS)
            check(f"pattern_{kind}_pred_sample0", head.head(passed.decoded)[0], **NETWORK)
    full = learner.model(
        out.patches,
        Mask(torch.arange(grid.num_patches).expand(len(spec), -1), torch.empty(len(spec), 0, dtype=torch.long)),
    )
    check("decode_unmasked_sample0", grid.unpatchify(head.head(full.decoded))[:1], **NETWORK)


def _latents(check: Checker, learner: PretrainModule, out: MaskedPass, spec: torch.Tensor) -> None:
    """M2D: what the teacher sees and says, predictions, losses."""
    assert out.predicted is not None and out.target is not None
    batch = batch_of(spec, torch.from_numpy(check.stored["noise"]))
    check("target_input_tokens", learner.model.encoder.tokens(out.patches, out.mask.hide), **NETWORK)
    check("pred", out.predicted[:, :, 0], **NETWORK)
    check("target", out.target, **NETWORK)
    check("loss", PredictLatents(LatentsConfig())(out, batch), **LOSS)
    check("loss_norm_mse_no_std", PredictLatents(LatentsConfig(standardise_target=False))(out, batch), **LOSS)
    check(
        "loss_mse_no_std", PredictLatents(LatentsConfig(standardise_target=False, distance="mse"))(out, batch), **LOSS
    )


def _gradients(check: Checker, learner: PretrainModule, spec: torch.Tensor, noise: torch.Tensor) -> None:
    learner.train().requires_grad_(True)
    if learner.model.teacher is not None:
        learner.model.teacher.requires_grad_(False)
    learner.zero_grad()
    learner.losses(batch_of(spec, noise), masking.random(noise, learner.recipe.model.mask_ratio))["loss"].backward()
    gradients = {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}
    for key in [key for key in check.stored if key.startswith("grad_") and key != "grad_total_norm"]:
        check(key, _theirs(gradients, key.removeprefix("grad_"), learner, check.stored[key].shape), **NETWORK)
    total = torch.stack([g.double().square().sum() for g in gradients.values()]).sum().sqrt()
    check("grad_total_norm", total, rtol=1e-5)
    learner.zero_grad()


def _six_steps(check: Checker, learner: PretrainModule, folder: Path, spec: torch.Tensor) -> None:
    if "train_noise" not in check.stored:
        return
    optimiser = build_optimiser(learner, learner.recipe.training)
    losses = []
    for noise, rate in zip(check.stored["train_noise"], check.stored["train_lr"], strict=True):
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        drawn = torch.from_numpy(noise)
        loss = learner.losses(batch_of(spec, drawn), masking.random(drawn, 0.75))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    check("train_loss", losses, **TRAINED)
    weights = dict(learner.named_parameters())
    for key in [key for key in check.stored if key.startswith("after_")]:
        check(key, _theirs(weights, key.removeprefix("after_"), learner, check.stored[key].shape), **TRAINED)
    restored = _learner(
        folder, learner.recipe.name, json.loads((folder / "configs.json").read_text())[learner.recipe.name]
    )
    learner.load_state_dict(restored.state_dict())


def _ema(check: Checker, learner: PretrainModule) -> None:
    teacher = learner.model.teacher
    if teacher is None:
        return
    teacher.ema_update(learner.model.encoder, 0.9)
    moved = dict(teacher.transformer.named_parameters())
    for key in [key for key in check.stored if key.startswith("ema0.9_target_")]:
        check(key, moved[key.removeprefix("ema0.9_target_")], atol=1e-6)


def _runtime(name: str, learner: PretrainModule, stored: Arrays, front: Arrays, table: Comparison) -> None:
    """Features of sounds shorter and longer than the window."""
    check = Checker(f"runtime_{name}", stored, table)
    learner.eval().requires_grad_(False)
    old = any(key.endswith("_batch_mean") for key in stored)
    published: Published = "msm-mae" if old else "m2d"
    both = np.stack([front["wav"], front["wav_b"]])
    endless = np.concatenate([both, both[:, ::-1]], axis=1)
    saved = SavedModel(learner, learner.recipe, M2D, Provenance())
    for case in [key.removesuffix("_n_samples") for key in stored if key.endswith("_n_samples")]:
        audio = torch.from_numpy(endless[:, : int(stored[f"{case}_n_samples"])].copy())
        model = hear.HearModel(Model(saved), Options(), published)
        frames, times = hear.get_timestamp_embeddings(audio, model)
        check(f"{case}_timestamp_emb", frames, **NETWORK)
        check(f"{case}_timestamps_ms", times, atol=1e-3)
        check(f"{case}_scene_emb", hear.get_scene_embeddings(audio, model), **NETWORK)
        spec = model.model.frontend(audio)
        check(f"{case}_frames", spec.shape[-1])
        check(f"{case}_batch_mean", spec.mean(), atol=3e-4)
        check(f"{case}_batch_std", spec.std(), atol=3e-4)
        fixed = Model(saved, pad_window=True)
        check(f"{case}_fixed_stats_emb", _stacked(fixed, audio, Options()), **NETWORK)
        if f"{case}_fixed_stats_layers" in stored:
            depth = len(learner.model.encoder.transformer.blocks)
            layers = [_stacked(fixed, audio, Options(layer=i)) for i in range(1, depth + 1)]
            check(f"{case}_fixed_stats_layers", np.stack(layers), **NETWORK)
    check.complete({key for key in stored if key.endswith("_n_samples")})


def _theirs(ours: dict[str, Any], key: str, learner: PretrainModule, shape: tuple[int, ...]) -> torch.Tensor:
    """One of our tensors under the reference's name and shape."""
    bias = {"q_bias": 0, "v_bias": 2}.get(key.rsplit(".", 1)[-1])
    plain = key.replace("q_bias", "qkv.bias").replace("v_bias", "qkv.bias")
    (name,) = named({plain: torch.zeros(shape)}, learner.recipe)
    value: torch.Tensor = ours[name]
    return (value.chunk(3)[bias] if bias is not None else value).reshape(shape)


def _stacked(model: Model, audio: torch.Tensor, options: Options) -> np.ndarray:
    sounds = [(wav.numpy(), model.sample_rate) for wav in audio]
    return np.stack([embedding.frames for _, embedding in model.embed_many(sounds, options)])
