"""Parity with EAT: front end, masks, positions, schedules, four training updates, files, features, fine-tuning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from benchmarks.parity.compare import Checker, Comparison, arrays, batch_of, log_mel_tolerance, with_cls
from unheard.audio.frontend import Statistics
from unheard.audio.kaldi import AUDIOMAE, KaldiFbank
from unheard.finetuning.learning_rates import decays, layer_scale
from unheard.finetuning.named_recipes import find_finetune_recipe
from unheard.finetuning.network import Network
from unheard.finetuning.recipe import AugmentConfig, FinetuneRecipe
from unheard.model import masking
from unheard.model.classification import clip_losses, smoothed
from unheard.model.conv_decoder import ConvDecoder
from unheard.model.ema import EmaTeacher
from unheard.model.encoder import Encoder, take
from unheard.model.masked_model import MaskedPass
from unheard.model.masking import Mask
from unheard.model.patches import Grid, position_table
from unheard.model.sizes import MaskConfig
from unheard.model.targets import instance_norm
from unheard.objectives.base import Batch
from unheard.objectives.diagnostics import spread
from unheard.objectives.teacher_schedules import TrainingProgress, momentum
from unheard.recipes import eat, find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import Recipe
from unheard.training.optim import build_optimiser, learning_rate
from unheard.weights.checkpoint import SavedModel
from unheard.weights.layouts.eat import STATISTICS, named, plain
from unheard.weights.published import convert

NETWORK = {"atol": 1e-5, "rtol": 1e-5}  # README of the folder
LOSS = {"atol": 2e-5, "rtol": 2e-5}  # README: losses and gradient norm
TABLE = {"rtol": 1e-9, "atol": 1e-15}
CELL, NEIGHBOURS, COLUMNS = 0.02, 0.3, 0.2  # README: of 8000 masks or more
MASKS = 20_000
ADJUST = 0.07
PADDED = 0.46706  # what the reference's padding becomes
BIAS = 5e-3  # README: of the keys' third of every qkv.bias, whose gradient is zero
INPUTS = ("input", "mask", "num_updates", "mask_token_noise")


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "eat_trace.npz").is_file() and (folder / "positions.npz").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder."""
    config = json.loads((folder / "config.json").read_text())
    _frontend(Checker("frontend", arrays(folder / "frontend.npz"), table))
    compare_masks(Checker("masks", arrays(folder / "masks.npz"), table))
    _positions(Checker("positions", arrays(folder / "positions.npz"), table))
    _schedules(Checker("schedules", arrays(folder / "schedules.npz"), table))
    for name in ("eat", "eat_large"):
        _training(folder, name, config[name] | config["fixed"], table)
    _inference(folder, config["eat"], table)
    _finetuning(folder, config["eat"], table)


def _frontend(check: Checker) -> None:
    fbank, stored = KaldiFbank(AUDIOMAE), check.stored
    wav = torch.from_numpy(stored["wave_16k"])
    spec, near = fbank(wav).transpose(1, 2), log_mel_tolerance(stored["fbank"], band_axis=-1)
    check("fbank", spec, near)
    fast = np.stack([fbank.spectrogram_cpu(row) for row in stored["wave_16k"]])
    check.table.check("frontend/fbank (fast path)", fast, stored["fbank"], near)
    check("window", fbank.window, atol=1e-6)
    check("mel_filterbank", fbank.mel[:, :-1], atol=5e-5)  # a table, which the reference computes in float32
    normal = STATISTICS.normalise_frames(spec.numpy())
    length = stored["padded_normed"].shape[1]
    padded = np.pad(normal, ((0, 0), (0, length - normal.shape[1]), (0, 0)), constant_values=PADDED)
    check("padded_normed", padded, atol=3e-4)
    check("cut_normed", normal[:, :32], atol=3e-4)
    for key, mean, std in (
        ("audioset", -4.268, 4.569),
        ("esc50", -6.627, 5.359),
        ("speechcommands", -6.846, 5.565),
    ):
        first = Statistics((mean,), (2 * std,)).normalise_frames(spec[:, :16].numpy())
        check(f"first16_normed_{key}", first, atol=3e-4)
    check("silence_fbank_value", fbank(torch.zeros(1, 400))[0, 0, 0], atol=1e-5)
    check("num_frames_10s", fbank.num_frames(160_000))
    for key in [key for key in stored if key.startswith("resample_out_")]:
        check.skip(key, "files are resampled by soxr, as the recipe states")
    check.complete({"wave_16k", *(key for key in stored if key.startswith("resample_in_"))})


def compare_masks(check: Checker) -> None:
    """Compare squares exactly, and the statistics of many masks; also of the folder of BAT."""
    for name in [key.removesuffix("_masks") for key in check.stored if key.endswith("_masks")]:
        if name == "flexible":
            for key in [key for key in check.stored if key.startswith("flexible_")]:
                check.skip(key, "block shapes drawn per call are off in every published run, and not built")
            continue
        _masks(check, name)
    inputs = ("_grid_ratio_length_adjust", "_grid_ratio_length", "_masks", "_centres")
    check.complete([key for key in check.stored if key.endswith(inputs)])


def _masks(check: Checker, name: str) -> None:
    numbers = check.stored.get(f"{name}_grid_ratio_length_adjust")
    if numbers is None:  # the folder of BAT, whose adjustment is that of EAT base
        numbers = np.append(check.stored[f"{name}_grid_ratio_length"], ADJUST)
    time, freq, side = (int(numbers[index]) for index in (0, 1, 3))
    grid, ratio = Grid(freq, time, (16, 16), "time"), float(numbers[2])
    blocks = MaskConfig("inverse_block", side, float(numbers[4]))
    squares = masking.num_blocks(grid.num_patches, ratio, blocks)
    if f"{name}_centres" in check.stored:
        centres = torch.from_numpy(check.stored[f"{name}_centres"])
        check.table.check(f"masks/{name}: squares", squares, centres.shape[1])
        check(f"{name}_squares_visible", masking.visible_blocks(grid, centres, side))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(MASKS, grid.num_patches + squares, generator=generator)
    before = masking.visible_blocks(grid, (noise[:, grid.num_patches :] * grid.num_patches).long(), side).sum(dim=1)
    check(f"{name}_visible_before_adjust_mean", before.float().mean(), atol=0.5)
    check(f"{name}_visible_before_adjust_std", before.float().std(), atol=0.5)
    visible = ~masking.inverse_block(grid, noise, ratio, blocks).hidden()
    check(f"{name}_visible_counts", visible.sum(dim=1).unique())
    cells = visible.reshape(MASKS, time, freq).float()
    check(f"{name}_cell_visible", cells.mean(dim=0), atol=CELL)
    pairs = (cells[:, 1:] * cells[:, :-1]).sum(dim=(1, 2)).mean(), (cells[..., 1:] * cells[..., :-1]).sum((1, 2)).mean()
    check(f"{name}_time_neighbours_per_mask", pairs[0], atol=NEIGHBOURS)
    check(f"{name}_freq_neighbours_per_mask", pairs[1], atol=NEIGHBOURS)
    touched = cells.amax(dim=2).sum(dim=1)
    check(f"{name}_columns_touched_mean", touched.mean(), atol=COLUMNS)
    check(f"{name}_columns_touched_std", touched.std(), atol=COLUMNS)
    for key in (f"{name}_examples", f"{name}_examples_ids_keep_sorted"):
        if key in check.stored:
            _examples(check, key, masking.num_keep(grid.num_patches, ratio))


def _examples(check: Checker, key: str, kept: int) -> None:
    """Rebuild the reference's examples from their own flags: the order of the visible tokens, and their number."""
    if key.endswith("_sorted"):
        flags = torch.from_numpy(check.stored[key.removesuffix("_ids_keep_sorted")]).bool()
        check(key, masking.mask_from_flags(flags).keep)
        return
    flags = torch.from_numpy(check.stored[key]).bool()
    check(key, masking.mask_from_flags(flags).hidden())
    check.table.check(f"masks/{key}: visible", (~flags).sum(dim=1), torch.full((len(flags),), kept))


def _positions(check: Checker) -> None:
    for key in check.stored:
        time, freq, dim = (int(number) for number in re.findall(r"\d+", key))
        check(key, position_table("eat", Grid(freq, time, (16, 16), "time"), dim), atol=5e-5)
    check.complete(())


def _schedules(check: Checker) -> None:
    """The recipes' own schedules, at the published length; the reference's rate begins a new cosine after its end."""
    base, steps = find_recipe("eat"), check.stored["step"]
    moments = [TrainingProgress(int(step), eat.STEPS) for step in steps]
    assert base.training.learning_rate is not None
    rates = [learning_rate(at.progress, base.training.learning_rate, base.training.warmup) for at in moments]
    inside = steps < eat.STEPS
    check.part("lr_pretrain_base", np.array(rates)[inside], inside, **TABLE)
    for name, recipe in (("base", base), ("large", find_recipe("eat-large"))):
        teacher = recipe.teacher
        ends = teacher.momentum_start, teacher.momentum_end
        found = [momentum(*ends, teacher.max_initial_weight, at, teacher.anneal) for at in moments]
        check(f"ema_decay_{name}", found, atol=1e-9)
    for key in [key for key in check.stored if key.startswith("lr_finetune")]:
        check.skip(key, "warm-up from 1e-6 and floors of groups are not built, as the fine-tuning recipes state")
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

    @property
    def teacher(self) -> EmaTeacher:
        teacher = self.learner.model.teacher
        assert teacher is not None and teacher.encoder is not None
        return teacher

    def step(self, rate: float, done: int) -> None:
        """The recipe's optimiser; fairseq adds epsilon before the bias of the second moment is corrected."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
            group["eps"] = self.config["adam"]["eps"] / (1 - group["betas"][1] ** (done + 1)) ** 0.5
        self.optimiser.step()
        self.optimiser.zero_grad()


def _recipe(config: dict[str, Any]) -> Recipe:
    published = find_recipe("eat")
    root = config["embed_dim"] ** 0.5
    model = replace(
        published.model,
        frames=config["target_length"],
        mask_ratio=config["mask_prob"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        decoder_embed_dim=config["decoder_dim"],
        decoder_depth=config["decoder_layers"],
        decoder_num_heads=config["decoder_groups"],
        decoder_kernel=config["decoder_kernel"],
    )
    teacher = replace(
        published.teacher,
        momentum_start=config["ema_decay"],
        momentum_end=config["ema_end_decay"],
        anneal=config["ema_anneal_end_step"] / config["max_update"],
        max_initial_weight=1.0,
        layers=config["average_top_k_layers"],
    )
    mask = MaskConfig("inverse_block", config["mask_length"], config["mask_prob_adjust"], config["clone_batch"])
    asked = published.objectives
    objectives = asked.updated(
        replace(asked.latents, weight=root),
        replace(asked.utterance, weight=root * config["batch"] * config["clone_batch"]),
    )
    training = replace(published.training, clip_norm=config["clip_norm"], batch_size=config["batch"])
    return replace(published, model=model, mask=mask, teacher=teacher, objectives=objectives, training=training)


def _ours(keys: dict[str, torch.Tensor], recipe: Recipe) -> dict[str, torch.Tensor]:
    """The tensors of student and teacher under our names."""
    student = named(plain({key: value for key, value in keys.items() if not key.startswith("_ema.")}), recipe)
    own = {key.removeprefix("_ema."): value for key, value in keys.items() if key.startswith("_ema.")}
    teacher = named(plain(own), recipe)
    return student | {key.replace("model.", "model.teacher.", 1): value for key, value in teacher.items()}


def _training(folder: Path, name: str, config: dict[str, Any], table: Comparison) -> None:
    """Four updates of one run, and what they leave."""
    run = _Run.of(folder, name, config)
    stored = arrays(folder / f"{name}_trace.npz")
    for step in range(4):
        trace = {key.removeprefix(f"s{step}_"): value for key, value in stored.items() if key.startswith(f"s{step}_")}
        check = Checker(f"{name}_trace/s{step}", trace, table)
        if step == 1 and (folder / f"{name}_ema_step1.safetensors").is_file():
            compare_tensors(
                f"{name}_ema_step1", _stored(folder, f"{name}_ema_step1", run), run.learner.state_dict(), table
            )
        _update(run, TrainingProgress(step, config["max_update"]), check)
        check.complete(INPUTS)
        if step == 1:
            compare_tensors(f"{name}_grads_step1", _stored(folder, f"{name}_grads_step1", run), run.gradients, table)
    compare_tensors(f"{name}_state_final", _stored(folder, f"{name}_state_final", run), run.learner.state_dict(), table)


def _stored(folder: Path, name: str, run: _Run) -> dict[str, torch.Tensor]:
    return _ours(load_file(folder / f"{name}.safetensors"), run.learner.recipe)


def compare_tensors(
    title: str, stored: dict[str, torch.Tensor], ours: dict[str, torch.Tensor], table: Comparison
) -> None:
    """Compare every stored tensor; the keys' third of qkv.bias has a tolerance of its own."""
    for name, value in stored.items():
        if name not in ours:
            table.missing(f"{title}/{name}")
            continue
        near: Any = NETWORK["atol"]
        if name.endswith("qkv.bias") and "final" in title:
            near = np.full(len(value), NETWORK["atol"])
            near[len(value) // 3 : 2 * len(value) // 3] = BIAS
        table.check(f"{title}/{name}", ours[name], value, near, NETWORK["rtol"])


def batch_and_mask(run_grid: Grid, stored: dict[str, np.ndarray], key: str = "input") -> tuple[Batch, Mask]:
    """The stored input and masks; tokens of a view are in ascending order."""
    spec = torch.from_numpy(stored[key]).transpose(1, 2)
    mask = masking.mask_from_flags(torch.from_numpy(stored["mask"]).bool())
    mask.seed = torch.zeros(len(mask.keep), dtype=torch.long)
    return batch_of(spec, torch.zeros(len(spec), run_grid.num_patches)), mask


def _update(run: _Run, when: TrainingProgress, check: Checker) -> None:
    """One update, in the order of the training loop."""
    learner, stored = run.learner, check.stored
    batch, mask = batch_and_mask(learner.grid, stored)
    learner.begin_step(when)
    check("ids_keep", mask.keep)
    decoder, noise = learner.model.decoder, torch.from_numpy(stored["mask_token_noise"])
    assert isinstance(decoder, ConvDecoder)
    decoder.noise = lambda mask, dim: take(noise, mask.hide)  # type: ignore[method-assign]
    with torch.no_grad():
        out = learner.model(learner.grid.patchify(batch.spec), mask, batch.valid)
        _inside(check, run, out)
        _losses(check, out)
    losses = learner.losses(batch, mask)
    losses["loss"].backward()
    check("loss_total_over_sample_size", losses["loss"], **LOSS)
    check("loss_frame_mse", losses["loss/latents"], **LOSS)
    check("loss_utterance_mse", losses["loss/utterance"], **LOSS)
    learner.before_step(when)
    training = learner.recipe.training
    trained = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    check("grad_norm_before_clip", torch.nn.utils.clip_grad_norm_(trained, training.clip_norm or 0), **LOSS)
    run.gradients = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
    check("ema_decay", learner.momentum(when), atol=1e-9)
    config = run.config
    check("lr", learning_rate(when.progress, config["lr"], config["warmup_updates"] / config["max_update"]), atol=1e-9)
    run.step(float(stored["lr"]), when.step)
    learner.after_step(TrainingProgress(when.step + 1, when.total))


def compare_student(check: Checker, encoder: Encoder, out: MaskedPass) -> None:
    """Every stage of the student."""
    check("patch_tokens", encoder.patch_embed(out.patches), **NETWORK)
    x = encoder.with_cls(encoder.tokens(out.patches, out.mask.keep))
    check("student_block_input", x, **NETWORK)
    for index, block in enumerate(encoder.transformer.blocks):
        x = block(x)
        check(f"student_block{index}_out", x, **NETWORK)
    check("student_latent", with_cls(out.visible, out.cls), **NETWORK)
    check("student_cls", out.cls, **NETWORK)


def compare_teacher(check: Checker, teacher: EmaTeacher, out: MaskedPass) -> None:
    """Every stage of the teacher and of its targets."""
    encoder, config = teacher.encoder, teacher.config
    assert encoder is not None and out.whole is not None
    x = encoder.with_cls(encoder.tokens(out.patches))
    check("teacher_block_input", x, **NETWORK)
    layers, taps = encoder.transformer.branches(x), 0 if config.taps == "block" else 1
    for index, (output, branch) in enumerate(layers):
        check(f"teacher_block{index}_out", output, **NETWORK)
        check(f"teacher_block{index}_mlp", branch, **NETWORK)
    normal = torch.stack([instance_norm(layer[taps][:, 1:], config.norm_eps) for layer in layers])
    check("target_layers_instance_normed", normal, **NETWORK)
    check("target_before_layer_norm", normal[-(config.layers or 0) :].mean(dim=0), **NETWORK)
    check("target", out.whole, **NETWORK)
    check("utterance_target", out.whole.mean(dim=1), **NETWORK)


def _inside(check: Checker, run: _Run, out: MaskedPass) -> None:
    model = run.learner.model
    decoder = model.decoder
    assert isinstance(decoder, ConvDecoder) and model.predictor is not None
    compare_student(check, model.encoder, out)
    compare_teacher(check, run.teacher, out)
    placed = decoder.placed(out.visible, out.mask)
    check("decoder_input", placed, **NETWORK)
    first = decoder.layers[0](decoder.grid_of(placed)).movedim(1, -1)
    first = torch.nn.functional.gelu(torch.nn.functional.layer_norm(first, first.shape[-1:], eps=1e-5))
    check("decoder_block0_out", first.movedim(-1, 1), **NETWORK)
    check("decoder_out", model.predictor(out.decoded)[:, :, 0], **NETWORK)


def _losses(check: Checker, out: MaskedPass) -> None:
    """Losses token by token, as the reference sums them, and its logged numbers."""
    assert out.target is not None and out.cls is not None and out.whole is not None
    predicted, views = out.best_prediction(), len(out.cls) // len(out.whole)
    root, count = predicted.shape[2] ** 0.5, predicted.shape[0] * predicted.shape[1]
    frames = (predicted - out.target).square().sum(dim=-1) / root
    mean = out.whole.mean(dim=1).repeat_interleave(views, dim=0)
    clips = (out.cls - mean).square().sum(dim=-1) / root
    check("loss_frame_tokens", frames, **NETWORK)
    check("loss_utterance_views", clips, **NETWORK)
    check("loss_frame_sum", frames.sum(), **LOSS)
    check("loss_utterance_sum", clips.sum() * count, **LOSS)
    check("sample_size", count)
    ones = torch.ones(predicted.shape[:2])
    check("log_target_var", spread(out.target, ones), **NETWORK)
    check("log_pred_var", spread(predicted, ones), **NETWORK)
    check("log_masked_pct", predicted.shape[1] / out.patches.shape[1], atol=1e-9)


def _inference(folder: Path, config: dict[str, Any], table: Comparison) -> None:
    """Features of every file of the folder, at three lengths."""
    stored, heads = arrays(folder / "inference.npz"), f"model.num_heads={config['num_heads']}"
    for file in ("checkpoint_pretrain.pt", "hf_pretrain/model.safetensors"):
        check = Checker(f"inference ({file})", stored, table)
        for case, model in _cases(folder / file, stored, heads):
            _features(check, case, model)
        check.complete([key for key in stored if key.endswith("_wave")])


def _cases(file: Path, stored: dict[str, np.ndarray], heads: str) -> Iterator[tuple[str, SavedModel]]:
    for case in [key.removesuffix("_spec") for key in stored if key.endswith("_spec")]:
        frames = stored[f"{case}_spec"].shape[1]
        yield case, convert(file, "eat", settings=[heads, f"model.frames={frames}"])


@torch.no_grad()
def _features(check: Checker, case: str, saved: SavedModel) -> None:
    encoder, stored = saved.learner.model.encoder, check.stored
    wav = torch.from_numpy(stored[f"{case}_wave"])
    spec = saved.statistics.normalise_frames(KaldiFbank(AUDIOMAE)(wav).transpose(1, 2).numpy())
    length = stored[f"{case}_spec"].shape[1]
    spec = np.pad(spec, ((0, 0), (0, max(0, length - spec.shape[1])), (0, 0)), constant_values=PADDED)[:, :length]
    check(f"{case}_spec", spec, atol=3e-4)
    patches = saved.learner.grid.patchify(torch.from_numpy(stored[f"{case}_spec"]).transpose(1, 2))
    check(f"{case}_features", with_cls(*encoder(patches)), **NETWORK)
    x = encoder.with_cls(encoder.tokens(patches))
    check(f"{case}_all_layers", torch.stack(encoder.transformer.layers(x), dim=1), **NETWORK)
    check(f"{case}_mlp_outputs", torch.stack([mlp for _, mlp in encoder.transformer.branches(x)], dim=1), **NETWORK)


def _finetuning(folder: Path, config: dict[str, Any], table: Comparison) -> None:
    """Logits and losses of both fine-tuned files, and the factors of the learning rate."""
    stored, heads = arrays(folder / "finetune.npz"), f"model.num_heads={config['num_heads']}"
    settings = [heads, f"model.frames={stored['input'].shape[1]}"]
    for file in ("checkpoint_finetuned.pt", "hf_finetuned/model.safetensors"):
        check = Checker(f"finetune ({file})", stored, table)
        saved = convert(folder / file, "eat", settings=settings)
        assert saved.classifier is not None and isinstance(saved.classifier.norm, torch.nn.LayerNorm)
        network = Network(saved.learner.model.encoder, saved.classifier, AugmentConfig()).eval().requires_grad_(True)
        spec = torch.from_numpy(stored["input"]).transpose(1, 2)
        frames = torch.full((len(spec),), spec.shape[2])
        with torch.no_grad():
            check("logits", network(spec, frames), **NETWORK)
            check("cls_features", network.pooled(spec, frames), **NETWORK)
            eps, saved.classifier.norm.eps = saved.classifier.norm.eps, 1e-5  # of the port
            check("logits_hf_norm_eps_1e-5", network(spec, frames), **NETWORK)
            saved.classifier.norm.eps = eps
        for case in ("audioset", "audioset_mixup", "esc50", "speechcommands_mixup"):
            _loss(check, case, network, spec)
        check.complete(("input", "labels_multi", "labels_single", *(key for key in stored if key.endswith("_lambda"))))
    scales = json.loads((folder / "finetune_groups.json").read_text())
    recipe = find_finetune_recipe("eat-20k")
    compare_scales(scales, {key: _encoder_name(key) for key in scales}, recipe, config["depth"], table)


def _loss(check: Checker, case: str, network: Network, spec: torch.Tensor) -> None:
    """One loss as the reference sums and divides it, from the losses of clips."""
    stored = check.stored
    target = torch.from_numpy(stored["labels_multi" if case.startswith("audioset") else "labels_single"]).float()
    if case.endswith("mixup"):
        share = float(stored[f"{case}_mixup_lambda"])
        spec = share * spec + (1 - share) * spec.flip(0)
        target = share * target + (1 - share) * target.flip(0)
        check(f"{case}_mixed_input_first_clip", spec[0].T, **NETWORK)
    logits = network(spec, torch.full((len(spec),), spec.shape[2]))
    if case == "esc50":
        total = clip_losses(logits, smoothed(target, 0.1), False).sum()
    else:
        total = clip_losses(logits, target, True).sum() * target.shape[1]
    size = target.sum() if case.startswith("audioset") else torch.tensor(float(len(target)))
    network.zero_grad()
    (total / size).backward()
    check(f"{case}_loss_sum", total, **LOSS)
    check(f"{case}_sample_size", size, **LOSS)
    check(f"{case}_loss", total / size, **LOSS)
    check(f"{case}_grad_head_weight", network.classifier.head.weight.grad, **LOSS)
    token = network.encoder.cls_token
    assert token is not None and token.grad is not None
    check(f"{case}_grad_cls_token", token.grad[None, None], **LOSS)


def _encoder_name(key: str) -> str:
    """Our name of a parameter in a fine-tuned network."""
    name = key.removeprefix("model.").removeprefix("modality_encoders.IMAGE.")
    name = name.replace("extra_tokens", "cls_token").replace("local_encoder.proj", "patch_embed")
    name = name.replace("context_encoder.norm", "input_norm")
    if name.startswith(("fc_norm.", "head.")):
        return "classifier." + name
    return "encoder." + (f"transformer.{name}" if name.startswith("blocks.") else name)


def compare_scales(
    stored: dict[str, dict[str, float]], names: dict[str, str], recipe: FinetuneRecipe, depth: int, table: Comparison
) -> None:
    """Compare factor of the learning rate and weight decay of every parameter."""
    adapt, training = recipe.adapt, recipe.training
    sizes = {"weight": 2, "bias": 1, "token": 2}
    for key, values in stored.items():
        name = names[key]
        dimensions = 1 if "norm" in name else sizes[name.rpartition(".")[2].rpartition("_")[2]]
        scale = layer_scale(name, depth, adapt.layer_decay, adapt.decay_embedding)
        decayed = training.weight_decay_on == "all" or decays(name, dimensions)
        found = [scale, training.weight_decay if decayed else 0.0]
        table.check(f"finetune_groups/{key}", found, [values["lr_scale"], values["weight_decay"]], rtol=1e-9)
