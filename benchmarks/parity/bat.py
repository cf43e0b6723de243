"""Parity with BAT: front end, masks, schedules, four training updates, files, features of every layer, probes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.parity.bat_heads import compare_heads
from benchmarks.parity.compare import Checker, Comparison, arrays
from benchmarks.parity.eat import (
    LOSS,
    NETWORK,
    TABLE,
    batch_and_mask,
    compare_masks,
    compare_scales,
    compare_student,
    compare_teacher,
    compare_tensors,
)
from unheard.audio.decibels import DB_MINMAX, DbMinMax
from unheard.errors import CheckpointError
from unheard.finetuning.learning_rates import layer_scale, rate_at
from unheard.finetuning.named_recipes import find_finetune_recipe
from unheard.model.decoder import Decoder
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.sizes import MaskConfig
from unheard.objectives.teacher_schedules import TrainingProgress, momentum
from unheard.recipes import eat, find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.training.optim import build_optimiser, learning_rate
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.audiomae import transpose_patch
from unheard.weights.layouts.mae import rename
from unheard.weights.published import convert

DECIBELS, UNIT, MATRIX = 2e-2, 3e-4, 2e-5  # README of the folder
FLOAT32 = 6e-8  # the momenta lie on a grid of float32
INPUTS = ("wave", "mask")
TRUNK = {"in_proj.": "decoder_embed.", "out_proj.": "decoder_pred.", "blocks.": "decoder_blocks."}


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "bat_trace.npz").is_file() and (folder / "probes.npz").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder."""
    config = json.loads((folder / "config.json").read_text())
    _frontend(Checker("frontend", arrays(folder / "frontend.npz"), table))
    compare_masks(Checker("masks", arrays(folder / "masks.npz"), table))
    _schedules(Checker("schedules", arrays(folder / "schedules.npz"), table))
    for name in ("bat", "bat_narrow"):
        _training(folder, name, config[name] | config["fixed"], table)
    _inference(folder, config["bat"], table)
    scales = json.loads((folder / "finetune_groups.json").read_text())
    names = {key: _network_name(key) for key in scales}
    compare_scales(scales, names, find_finetune_recipe("bat-20k"), config["bat"]["depth"], table)
    compare_heads(Checker("probes", arrays(folder / "probes.npz"), table))


def _network_name(key: str) -> str:
    """Our name of a parameter in a fine-tuned network."""
    if key.startswith("head."):
        return "classifier." + key.removeprefix("head.").replace("ln.", "norm.").replace("fc.", "head.")
    name = key.replace("patch_embed.proj", "patch_embed").replace("pre_norm", "input_norm")
    return "encoder." + (f"transformer.{name}" if name.startswith("blocks.") else name)


def _frontend(check: Checker) -> None:
    front, normal, stored = DbMinMax(), DB_MINMAX.statistics(), check.stored
    wav = torch.from_numpy(stored["wave_16k"])
    db = front(wav)
    cut = torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - DB_MINMAX.top_db)
    check("mel_power", 10 ** (db / 10), atol=1e-4, rtol=1e-4)
    check("db", cut, atol=DECIBELS)
    unit = normal.normalise(db)
    check("minmax", unit, atol=UNIT)
    fast = np.stack([normal.normalise_frames(front.spectrogram_cpu(row)).T for row in stored["wave_16k"]])
    check.table.check("frontend/minmax (fast path)", fast, stored["minmax"], UNIT)
    check("spec_padded", _padded(unit, stored["spec_padded"].shape[1]), atol=UNIT)
    whole = torch.maximum(db, db.max() - DB_MINMAX.top_db)
    check("db_batch_statistics", whole, atol=DECIBELS)  # recomputed by hand: the library never does so
    check("mel_filterbank", front.mel.T, atol=MATRIX)
    check("window", front.window, atol=1e-6)
    silent = front(torch.zeros(1, 3200))
    check("silence_spec", normal.normalise(silent)[0].T, atol=UNIT)
    check("silence_db", silent[0, 0, 0], atol=1e-5)
    check("num_frames_10s", front.num_frames(160_000))
    longer = torch.cat([wav, wav.flip(1)], dim=1)  # mirrored, so twice as long
    cropped = _padded(normal.normalise(front(longer)), stored["spec_padded"].shape[1])
    check("cropped_when_longer", cropped[:, -stored["cropped_when_longer"].shape[1] :], atol=UNIT)
    half = wav[1:].clone()
    half[:, wav.shape[1] // 2 :] = 0
    filled = _padded(normal.normalise(front(half)), stored["spec_padded"].shape[1])[0]
    check("spec_of_zero_padded_second_wave", filled, atol=UNIT)
    check.complete({"wave_16k"})


def _padded(unit: torch.Tensor, frames: int) -> torch.Tensor:
    """A normalised spectrogram (B, F, T) as the reference stores it: time first, zeros at the end."""
    return torch.nn.functional.pad(unit, (0, max(0, frames - unit.shape[2])))[..., :frames].transpose(1, 2)


def _schedules(check: Checker) -> None:
    """The recipe's own schedules, at the published length."""
    recipe, steps = find_recipe("bat"), check.stored["step"]
    moments = [TrainingProgress(min(int(step), eat.STEPS), eat.STEPS) for step in steps]
    assert recipe.training.learning_rate is not None
    rates = [learning_rate(at.progress, recipe.training.learning_rate, recipe.training.warmup) for at in moments]
    check("lr_pretrain", [max(recipe.training.min_learning_rate, rate) for rate in rates], **TABLE)
    ends = recipe.teacher.momentum_start, recipe.teacher.momentum_end
    last = (100_000 - 1) / eat.STEPS  # the reference's grid includes both ends
    check("ema_decay_of_update", [momentum(*ends, 1.0, at, last) for at in moments], atol=FLOAT32)
    tuning = find_finetune_recipe("bat-20k")
    base = np.array([rate_at(step / (tuning.training.steps or 1), tuning) for step in check.stored["finetune_step"]])
    check("lr_finetune_as20k_scale1", base, **TABLE)
    for key, layer in (("block0", "transformer.blocks.0.fc1.weight"), ("patch_embed", "encoder.patch_embed.weight")):
        check(f"lr_finetune_as20k_{key}", base * layer_scale(layer, 12, tuning.adapt.layer_decay), **TABLE)
    check.complete({"step", "finetune_step"})


@dataclass
class _Run:
    """One stored run in our classes."""

    learner: PretrainModule
    optimiser: torch.optim.AdamW
    config: dict[str, Any]
    gradients: dict[str, torch.Tensor]

    @classmethod
    def of(cls, folder: Path, name: str, config: dict[str, Any]) -> _Run:
        """The stored weights before the first update."""
        learner = build(_recipe(config), seed=0)
        learner.load_state_dict(_ours(load_file(folder / f"{name}_state_init.safetensors"), learner.recipe))
        return cls(learner.train(), build_optimiser(learner, learner.recipe.training), config, {})


def _recipe(config: dict[str, Any]) -> Recipe:
    published = find_recipe("bat")
    model = replace(
        published.model,
        frames=config["frames"],
        mask_ratio=config["mask_ratio"],
        embed_dim=config["dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        gate=config["use_gate"],
        decoder_embed_dim=config["decoder_dim"],
        decoder_depth=config["decoder_depth"],
        decoder_num_heads=config["decoder_heads"],
    )
    teacher = replace(
        published.teacher,
        momentum_start=config["ema_start"],
        momentum_end=config["ema_end"],
        anneal=(config["ema_warmup"] - 1) / config["total"],
        max_initial_weight=1.0,
    )
    training = replace(published.training, clip_norm=config["clip_norm"], min_learning_rate=config["min_lr"])
    mask = MaskConfig("inverse_block", views=config["views"])
    return replace(published, model=model, mask=mask, teacher=teacher, training=training)


def _ours(keys: dict[str, torch.Tensor], recipe: Recipe) -> dict[str, torch.Tensor]:
    """The tensors of student and teacher under our names."""
    found: dict[str, torch.Tensor] = {}
    for prefix, ours in (("student.", ""), ("", ""), ("teacher.", "teacher.")):
        part = {
            key.removeprefix(prefix): value
            for key, value in keys.items()
            if key.startswith((f"{prefix}encoder.", f"{prefix}decoder."))
        }
        plain = {_plain(key): value for key, value in part.items()}
        own = rename(plain, False, "model.predictor.project.", {"pre_norm.": "model.encoder.input_norm."})
        weight = own.get("model.encoder.patch_embed.weight")
        if weight is not None:
            own["model.encoder.patch_embed.weight"] = transpose_patch(weight.T, recipe).T
        found |= {key.replace("model.", f"model.{ours}", 1): value for key, value in own.items()}
    return found


def _plain(key: str) -> str:
    """The name of a tensor in files of the MAE family."""
    if key.startswith("encoder."):
        return key.removeprefix("encoder.")
    name = key.removeprefix("decoder.")
    for theirs, ours in TRUNK.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return {"pos_embed": "decoder_pos_embed"}.get(name, name)


def _training(folder: Path, name: str, config: dict[str, Any], table: Comparison) -> None:
    """Four updates of one run, and what they leave."""
    run = _Run.of(folder, name, config)
    stored = arrays(folder / f"{name}_trace.npz")
    for step in range(4):
        trace = {key.removeprefix(f"s{step}_"): value for key, value in stored.items() if key.startswith(f"s{step}_")}
        check = Checker(f"{name}_trace/s{step}", trace, table)
        _update(run, TrainingProgress(step, config["total"]), check)
        check.complete(INPUTS)
        if step == 1:
            _compare(folder, f"{name}_grads_step1", run, run.gradients, table)
        if step == 0 and (folder / f"{name}_teacher_after_step0.safetensors").is_file():
            _compare(folder, f"{name}_teacher_after_step0", run, run.learner.state_dict(), table)
    _compare(folder, f"{name}_state_final", run, run.learner.state_dict(), table)


def _compare(folder: Path, name: str, run: _Run, ours: dict[str, torch.Tensor], table: Comparison) -> None:
    compare_tensors(name, _ours(load_file(folder / f"{name}.safetensors"), run.learner.recipe), ours, table)


def _update(run: _Run, when: TrainingProgress, check: Checker) -> None:
    """One update, in the order of the training loop; the EMA takes the momentum of this update, see the recipe."""
    learner, config, stored = run.learner, run.config, check.stored
    unit = DB_MINMAX.statistics().normalise(DbMinMax()(torch.from_numpy(stored["wave"])))
    check("spec", _padded(unit, stored["spec"].shape[1]), atol=UNIT)
    batch, mask = batch_and_mask(learner.grid, stored, "spec")
    learner.begin_step(when)
    check("ids_keep", mask.keep)
    with torch.no_grad():
        out = learner.model(learner.grid.patchify(batch.spec), mask, batch.valid)
        _inside(check, learner, out, mask)
    losses = learner.losses(batch, mask)
    losses["loss"].backward()
    check("loss_local", losses["loss/latents"], **LOSS)
    check("loss_global", losses["loss/utterance"], **LOSS)
    check("loss", losses["loss"], **LOSS)
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    limit = learner.recipe.training.clip_norm
    norm = torch.nn.utils.clip_grad_norm_(trained, limit or float("inf"))
    check("grad_norm", norm if limit is None else torch.nn.utils.get_total_norm([p.grad for p in trained]), **LOSS)
    run.gradients = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
    rate = learning_rate(when.progress, config["lr"], config["warmup"] / config["total"])
    check("lr", max(rate, learner.recipe.training.min_learning_rate), atol=1e-9)
    for group in run.optimiser.param_groups:
        group["lr"] = float(stored["lr"])
    run.optimiser.step()
    run.optimiser.zero_grad()
    decay, teacher = learner.momentum(when), learner.model.teacher
    check("ema_decay_after", decay, atol=FLOAT32)
    assert teacher is not None
    teacher.ema_update(learner.model.encoder, decay)


def _inside(check: Checker, learner: PretrainModule, out: MaskedPass, mask: Mask) -> None:
    model = learner.model
    decoder, teacher = model.decoder, model.teacher
    assert isinstance(decoder, Decoder) and teacher is not None and model.predictor is not None
    compare_student(check, model.encoder, out)
    compare_teacher(check, teacher, out)
    attention = model.encoder.transformer.blocks[0].attn
    seen: list[torch.Tensor] = []
    watch = [attention.proj.register_forward_pre_hook(lambda module, given: seen.append(given[0]))]
    if attention.gate is not None:
        kept = attention.gate.register_forward_hook(lambda module, given, result: seen.append(result.sigmoid()))
        watch.append(kept)
    attention(model.encoder.with_cls(model.encoder.tokens(out.patches, mask.keep)))
    for hook in watch:
        hook.remove()
    check("student_block0_gated_values", seen[-1], **NETWORK)
    check("student_block0_gate", seen[0], **NETWORK)
    inputs: list[torch.Tensor] = []
    hook = decoder.transformer.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    decoder(out.visible, mask, out.cls)
    hook.remove()
    check("decoder_input", inputs[0], **NETWORK)
    check("decoder_block0_out", decoder.transformer.blocks[0](inputs[0]), **NETWORK)
    predicted = model.predictor(out.decoded)[:, :, 0]
    check("decoder_out", predicted, **NETWORK)
    assert out.whole is not None
    target = out.whole.repeat_interleave(len(predicted) // len(out.whole), dim=0)
    check("loss_local_tokens", (predicted - target).square().mean(dim=-1), **NETWORK)


def _inference(folder: Path, config: dict[str, Any], table: Comparison) -> None:
    """Features of both files at three lengths; the third file is refused."""
    stored, heads = arrays(folder / "inference.npz"), f"model.num_heads={config['num_heads']}"
    for file in ("checkpoint_student.pt", "hf/model.safetensors"):
        check, saved = Checker(f"inference ({file})", stored, table), convert(folder / file, "bat", settings=[heads])
        for case in [key.removesuffix("_spec") for key in stored if key.endswith("_spec")]:
            _features(check, case, saved)
        check.complete([key for key in stored if key.endswith("_wave")])
    try:
        convert(folder / "checkpoint_pretrain_script.pt", "bat", settings=[heads])
        refused = False
    except CheckpointError:
        refused = True
    table.check("checkpoint_pretrain_script.pt is refused", refused, True)


@torch.no_grad()
def _features(check: Checker, case: str, saved: SavedModel) -> None:
    """Layers of each window of 64 columns; CLS is their mean, each counted the same, and patches are joined."""
    grid, encoder, stored = saved.learner.grid, saved.learner.model.encoder, check.stored
    unit = saved.statistics.normalise(DbMinMax()(torch.from_numpy(stored[f"{case}_wave"])))
    check(f"{case}_spec", _padded(unit, stored[f"{case}_spec"].shape[1]), atol=UNIT)
    cls, patches = [], []
    for window in torch.from_numpy(stored[f"{case}_spec"]).transpose(1, 2).split(grid.frames, dim=2):
        columns = window.shape[2] // grid.patch_size[1]
        whole = torch.nn.functional.pad(window, (0, grid.frames - window.shape[2]))
        keep = grid.crop_time(columns).expand(len(window), -1)
        x = encoder.with_cls(encoder.tokens(grid.patchify(whole), keep))
        layers = torch.stack(encoder.transformer.layers(x), dim=1)
        cls.append(layers[:, :, 0])
        patches.append(layers[:, :, 1:].unflatten(2, (columns, grid.freq)))
    check(f"{case}_cls_layers", torch.stack(cls).mean(dim=0), **NETWORK)
    check(f"{case}_patch_layers", torch.cat(patches, dim=2), **NETWORK)
    check(f"{case}_patch_last", torch.cat(patches, dim=2)[:, -1], **NETWORK)
