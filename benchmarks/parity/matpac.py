"""Parity with MATPAC and MATPAC++: front end, schedules, four training updates, features, the AudioSet head."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from benchmarks.parity.compare import Checker, Comparison, arrays, batch_of, log_mel_tolerance, with_cls
from unheard.audio.frontend import MATPAC, LogMel
from unheard.audio.resample import resample
from unheard.embedding.embedder import Model
from unheard.errors import CheckpointError
from unheard.model import masking
from unheard.model.masked_model import MaskedPass
from unheard.model.sizes import ModelConfig
from unheard.objectives.base import Batch
from unheard.objectives.diagnostics import spread
from unheard.objectives.latents import LatentsConfig, PredictLatents
from unheard.objectives.prototypes import Prototypes, PrototypesConfig
from unheard.objectives.reconstruct import ReconstructConfig
from unheard.objectives.teacher_schedules import TeacherConfig, TrainingProgress, momentum
from unheard.recipes import find_recipe
from unheard.recipes.learner import PretrainModule, build
from unheard.recipes.recipe import ObjectivesConfig, Recipe
from unheard.training.optim import build_optimiser, learning_rate
from unheard.weights.checkpoint import SavedModel, load_weights
from unheard.weights.layouts.mae import Released
from unheard.weights.layouts.matpac import STATISTICS, hypotheses, named, read

NETWORK = {"atol": 1e-5, "rtol": 1e-5}  # README of the folder: 1e-5 absolute
LOG_MEL = {
    "atol": 3e-4
}  # of this house; the README suggests 1e-4, and the second wave, at the level of the offset, is 1.2e-4 away
SINC = {"atol": 5e-5}  # the reference computes the places of its filter's taps in single precision
FROM_WAVE = {"atol": 1e-4}  # what a log-mel within its tolerance may do to features
TABLE = {"rtol": 1e-9, "atol": 1e-15}
HALF = 0.5  # of each loss, in every stored run
INPUTS = ("input", "mask_noise", "lr", "num_updates")


def fits(folder: Path) -> bool:
    """Whether a folder has this format."""
    return (folder / "matpac_trace.npz").is_file() and (folder / "schedules.npz").is_file()


def compare(folder: Path, table: Comparison) -> None:
    """Recompute every stored output of a folder."""
    config = json.loads((folder / "config.json").read_text())
    _frontend(Checker("frontend", arrays(folder / "frontend.npz"), table))
    _schedules(Checker("schedules", arrays(folder / "schedules.npz"), table))
    for name in ("matpac", "matpacpp"):
        _training(folder, name, config[name] | config["fixed"], table)
    _inference(folder, config["inference"], table)


def _frontend(check: Checker) -> None:
    mel, stored = LogMel(MATPAC), check.stored
    wav = torch.from_numpy(stored["wave_16k"])
    spectrum = torch.stft(wav, MATPAC.n_fft, MATPAC.hop_size, window=mel.window, center=False, return_complex=True)
    check("power_spec_first8frames", spectrum.abs().square()[..., :8], atol=1e-4, rtol=1e-4)
    check("window", mel.window, atol=1e-6)
    check("mel_fb", mel.mel.T, atol=1e-6)
    log_mel = mel(wav)
    near = log_mel_tolerance(stored["logmel"])
    check("logmel", log_mel, near)
    check("mel_power", log_mel.exp() - MATPAC.log_offset, atol=1e-4, rtol=1e-4)
    check("logmel_norm", STATISTICS.normalise(log_mel), near)
    fast = np.stack([mel.spectrogram_cpu(row).T for row in stored["wave_16k"]])
    check.table.check("frontend/logmel (fast path)", fast, stored["logmel"], near)
    check("log_offset", MATPAC.log_offset, atol=1e-12)
    check("silence_logmel_norm_value", STATISTICS.normalise(mel(torch.zeros(1, 400)))[0, 0, 0], atol=1e-5)
    for key in [key for key in stored if key.startswith("resample_out_")]:
        rate = key.split("_")[2]
        check(
            key,
            resample(torch.from_numpy(stored[f"resample_in_{rate}"])[None], int(rate), MATPAC.sample_rate)[0],
            **SINC,
        )
    check.complete({"wave_16k", *(key for key in stored if key.startswith("resample_in_"))})


def _schedules(check: Checker) -> None:
    """The recipe's own schedules, at the published length."""
    recipe, total = find_recipe("matpac++"), 294_816
    moments = [TrainingProgress(int(step), total) for step in check.stored["step"]]
    teacher, asked = recipe.teacher, recipe.objectives
    heads, latents = asked.prototypes, PredictLatents(asked.latents, recipe.model.num_hypotheses)
    head = Prototypes(replace(heads, prototypes=8, hidden_dim=8, bottleneck_dim=8), 8, teacher)
    assert recipe.training.learning_rate is not None
    check(
        "lr",
        [learning_rate(at.progress, recipe.training.learning_rate, recipe.training.warmup) for at in moments],
        **TABLE,
    )
    encoder = [momentum(teacher.momentum_start, teacher.momentum_end, teacher.max_initial_weight, at) for at in moments]
    check("encoder_ema_decay", encoder, atol=1e-8)  # MOST_LEFT is written with three digits
    check("head_ema_decay", [head.momentum(at) for at in moments], **TABLE)
    check("teacher_temp", [float(head.temperature(at.progress_tensor())) for at in moments], rtol=1e-7)
    check("mcl_temperature", [float(latents.temperature(at.progress_tensor())) for at in moments], rtol=1e-3)
    check.complete({"step"})


def _training(folder: Path, name: str, config: dict[str, Any], table: Comparison) -> None:
    """Four updates of one run, and what they leave."""
    run = _Run.of(folder, name, config)
    stored = arrays(folder / f"{name}_trace.npz")
    for step in range(4):
        trace = {key.removeprefix(f"s{step}_"): value for key, value in stored.items() if key.startswith(f"s{step}_")}
        check = Checker(f"{name}_trace/s{step}", trace, table)
        _update(run, TrainingProgress(step, config["max_update"]), check)
        check.complete(INPUTS)
        if step == 1:
            _tensors(f"{name}_grads_step1", folder, run.gradients, table)
            _tensors(f"{name}_ema_after_step1", folder, run.learner.state_dict(), table)
    _tensors(
        f"{name}_state_final", folder, run.learner.state_dict() | {"objectives.prototypes.center": run.center}, table
    )


@dataclass
class _Run:
    """One stored run in our classes."""

    learner: PretrainModule
    optimiser: torch.optim.AdamW
    adam_eps: float
    center: torch.Tensor
    gradients: dict[str, torch.Tensor]

    @classmethod
    def of(cls, folder: Path, name: str, config: dict[str, Any]) -> _Run:
        """The stored weights before the first update."""
        keys = load_file(folder / f"{name}_state_init.safetensors")
        learner = build(_recipe(config), seed=0)
        load_weights(learner, named(keys), name)
        unknown = learner.load_state_dict(_training_state(keys), strict=False).unexpected_keys
        if unknown:
            raise CheckpointError(f"{name} holds training state without a place here: {', '.join(unknown)}")
        center = learner.state_dict()["objectives.prototypes.center"].clone()
        return cls(
            learner.train(), build_optimiser(learner, learner.recipe.training), config["adam"]["eps"], center, {}
        )

    @property
    def head(self) -> Prototypes:
        head = self.learner.objectives["prototypes"]
        assert isinstance(head, Prototypes)
        return head

    @property
    def latents(self) -> PredictLatents:
        latents = self.learner.objectives["latents"]
        assert isinstance(latents, PredictLatents)
        return latents

    def step(self, rate: float, done: int) -> None:
        """The recipe's optimiser; fairseq adds epsilon before the bias of the second moment is corrected."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
            group["eps"] = self.adam_eps / (1 - group["betas"][1] ** (done + 1)) ** 0.5
        self.optimiser.step()
        self.optimiser.zero_grad()


def _recipe(config: dict[str, Any]) -> Recipe:
    published = find_recipe("matpac++" if config["use_mcl"] else "matpac")
    warm = config["teacher_temp_warmup_steps"] / config["max_update"]
    latents = LatentsConfig(weight=HALF, standardise_target=False)
    if config["use_mcl"]:
        start, end = config["mcl_temperature_start"], config["mcl_temperature_end"]
        share = np.log(end / start) / np.log(config["mcl_decay_rate"]) / config["max_update"]
        latents = replace(latents, wta_temperature_start=start, wta_temperature_end=end, wta_fraction=float(share))
    prototypes = PrototypesConfig(
        weight=HALF,
        prototypes=config["head_dim_out"],
        hidden_dim=config["hidden_dim"],
        bottleneck_dim=config["bottleneck_dim"],
        student_temp=config["student_temp"],
        teacher_temp_start=config["warmup_teacher_temp"],
        teacher_temp=config["teacher_temp"],
        teacher_temp_warmup=warm,
        center_momentum=config["center_momentum"],
        momentum_start=config["head_ema_decay"],
        momentum_end=config["head_ema_end_decay"],
    )
    teacher = TeacherConfig(
        config["ema_decay"], config["ema_end_decay"], max_initial_weight=1.0, update_at=published.teacher.update_at
    )
    adam = config["adam"]
    return replace(
        published,
        frontend=replace(MATPAC, n_mels=config["n_freq"]),
        model=_model(config, num_hypotheses=config["mcl_n_head"] if config["use_mcl"] else 1),
        objectives=ObjectivesConfig(ReconstructConfig(weight=0.0), latents, prototypes),
        teacher=teacher,
        training=replace(
            published.training,
            betas=tuple(adam["betas"]),
            weight_decay=adam["weight_decay"],
            clip_norm=config["clip_norm"],
        ),
    )


def _model(config: dict[str, Any], **more: Any) -> ModelConfig:
    return ModelConfig(
        frames=config["n_t"],
        patch_size=(config["patch_size"],) * 2,
        mask_ratio=config["mask_ratio"],
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        decoder_embed_dim=config["decoder_embed_dim"],
        decoder_depth=config["decoder_depth"],
        decoder_num_heads=config["decoder_num_heads"],
        mlp_ratio=config["mlp_ratio"],
        **more,
    )


def _update(run: _Run, when: TrainingProgress, check: Checker) -> None:
    """One update, in the order of `unheard.training.pretrain`."""
    learner, stored = run.learner, check.stored
    spec, noise = torch.from_numpy(stored["input"]), torch.from_numpy(stored["mask_noise"])
    batch, mask = batch_of(spec, noise), masking.random(noise, learner.recipe.model.mask_ratio)
    learner.begin_step(when)
    check("center_before", run.center[None, None], **NETWORK)
    check("center_used", run.head.center[None, None], **NETWORK)
    with torch.no_grad():
        out = learner.model(learner.grid.patchify(spec), mask)
        out.progress = learner.progress
        _inside(check, learner, out)
        _losses(check, run, out, batch)
        _diagnostics(check, run, out, batch)
    losses = learner.losses(batch, mask)
    losses["loss"].backward()
    check("loss_pred_mean", losses["loss/latents"], **NETWORK)
    check("loss_cls_mean", losses["loss/prototypes"], **NETWORK)
    check("loss_total_mean", losses["loss"], **NETWORK)
    check("sample_size", mask.hide.numel())
    check("pending_batch_center", (run.head.pending / run.head.pending_tokens)[None, None], **NETWORK)
    learner.before_step(when)
    norm = torch.nn.utils.clip_grad_norm_(
        [p for p in learner.parameters() if p.requires_grad], learner.recipe.training.clip_norm or 0
    )
    check("grad_norm_before_clip", norm, **NETWORK)
    run.gradients = {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}
    check("encoder_ema_decay", learner.momentum(when), atol=1e-12)
    check("head_ema_decay", run.head.momentum(when), atol=1e-12)
    run.step(float(stored["lr"]), when.step)
    run.center = run.head.center.clone()  # the reference folds at the beginning of the next update
    learner.after_step(TrainingProgress(when.step + 1, when.total))


def _inside(check: Checker, learner: PretrainModule, out: MaskedPass) -> None:
    """Every stage of the masked pass."""
    model, mask = learner.model, out.mask
    encoder, decoder, teacher = model.encoder, model.decoder, model.teacher
    assert teacher is not None and out.predicted is not None
    check("mask", mask.hidden().float())
    check("len_keep", mask.keep.shape[1])
    shuffled = torch.cat([mask.keep, mask.hide], dim=1)
    check("ids_shuffle", shuffled)
    check("ids_restore", shuffled.argsort(dim=1))
    check("patch_tokens", encoder.patch_embed(out.patches), **NETWORK)
    check("tokens_with_pos", encoder.tokens(out.patches), **NETWORK)
    check("x_visible", encoder.tokens(out.patches, mask.keep), **NETWORK)
    check("x_masked", encoder.tokens(out.patches, mask.hide), **NETWORK)
    x = encoder.with_cls(encoder.tokens(out.patches, mask.keep))
    for index, block in enumerate(encoder.transformer.blocks):
        x = block(x)
        check(f"student_block{index}_out", x, **NETWORK)
    latent = with_cls(out.visible, out.cls)
    check("student_latent", latent, **NETWORK)
    hidden = encoder.with_cls(encoder.tokens(out.patches, mask.hide))
    check("teacher_latent", teacher.transformer(hidden), **NETWORK)
    check("decoder_embed_out", decoder.embed(latent), **NETWORK)
    seen: list[torch.Tensor] = []
    watch = [
        decoder.transformer.register_forward_pre_hook(lambda module, given: seen.append(given[0])),
        decoder.transformer.register_forward_hook(lambda module, given, result: seen.append(result)),
    ]
    decoder(out.visible, mask, out.cls)
    for hook in watch:
        hook.remove()
    check("decoder_block_input", seen[0], **NETWORK)
    check("decoder_norm_out", seen[1], **NETWORK)
    check("prediction", out.predicted if out.predicted.shape[2] > 1 else out.predicted[:, :, 0], **NETWORK)


def _losses(check: Checker, run: _Run, out: MaskedPass, batch: Batch) -> None:
    """What both objectives make of the pass, token by token."""
    assert out.predicted is not None and out.target is not None
    head, latents, config = run.head, run.latents, run.head.config
    temperature = latents.temperature(out.progress)
    distances = latents.distances(out.predicted, out.target)
    check("loss_pred_tokens", latents.shared(distances, temperature), **NETWORK)
    if out.best is not None:
        check("mcl_best_idx", out.best)
        check("log_mcl_temp", 1000 * temperature.clamp(min=latents.config.wta_temperature_end), rtol=1e-5)
    guess = out.best_prediction()
    check("head_student_in", guess, **NETWORK)
    check("head_student_bottleneck", head.student.mlp(guess), **NETWORK)
    student = head.student(guess)
    check("head_student_logits", student, **NETWORK)
    logits = head.teacher(out.target)
    check("head_teacher_logits", logits, **NETWORK)
    probabilities = head.assign(logits, out.progress)
    check("head_teacher_probs", probabilities, **NETWORK)
    scaled = student / config.student_temp
    check("head_student_probs", scaled.softmax(dim=-1), **NETWORK)
    check("loss_cls_tokens", -(probabilities * scaled.log_softmax(dim=-1)).sum(dim=-1).flatten(), **NETWORK)
    check("teacher_temp", head.temperature(out.progress), atol=1e-7)
    check("log_t_temp", 100 * head.temperature(out.progress), atol=1e-5)


def _diagnostics(check: Checker, run: _Run, out: MaskedPass, batch: Batch) -> None:
    """The reference's logged numbers: spreads times 1000, and what the journal of ours writes."""
    assert out.predicted is not None and out.target is not None
    weights = batch.valid.gather(1, out.mask.hide).float()
    thousand = {"atol": 1e-2, "rtol": 1e-5}  # 1e-5 of the unscaled number
    if out.best is None:
        check("log_var_z_hat_m", 1000 * spread(F.normalize(out.best_prediction(), dim=-1), weights), **thousand)
    check("log_var_z_m", 1000 * spread(F.normalize(out.target, dim=-1), weights), **thousand)
    probabilities = run.head.assign(run.head.teacher(out.target), out.progress)
    student = (run.head.student(out.best_prediction()) / run.head.config.student_temp).softmax(dim=-1)
    check("log_var_p_m", 1000 * spread(probabilities, weights), **thousand)
    check("log_var_p_hat_m", 1000 * spread(student, weights), **thousand)
    run.head.eval()
    run.head(out, batch)
    run.head.train()
    check("log_cls_perplexity", out.diagnostics["prototype_perplexity"], rtol=1e-4)
    check("log_n_diff_target", out.diagnostics["active_prototypes"])
    check("log_correct", out.diagnostics["agreement"] * out.mask.hide.numel(), atol=1e-4)
    check("log_count", out.mask.hide.numel())


def _tensors(name: str, folder: Path, ours: dict[str, torch.Tensor], table: Comparison) -> None:
    """Every tensor of a stored file, and ours of the same meaning."""
    keys = load_file(folder / f"{name}.safetensors")
    if name.endswith("state_final") and hypotheses(keys) > 1:
        for key in [key for key in keys if key.startswith("decoder.decoder_pred.")]:
            table.skip(
                f"{name}/{key}",
                "the single projection, which five hypotheses replace; the reference never moves it either",
            )
    for key, theirs in {**named(keys), **_training_state(keys)}.items():
        if key in ours:
            table.check(f"{name}/{key}", ours[key].reshape(theirs.shape), theirs, **NETWORK)
        else:
            table.missing(f"{name}/{key}")
    if name.endswith("grads_step1"):
        table.check(f"{name}/tensors with a gradient", len(ours), len({**named(keys), **_training_state(keys)}))


def _training_state(keys: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a model folder leaves out, under our names: teachers, heads over prototypes, the centre."""
    parts = {
        "_ema.": "model.teacher.transformer.",
        "cls_student_head.": "objectives.prototypes.student.",
        "_cls_head_ema.": "objectives.prototypes.teacher.",
    }
    found = {}
    for key, value in keys.items():
        if key == "cls_head_loss.center":
            found["objectives.prototypes.center"] = value.flatten()
        for theirs, ours in parts.items():
            if key.startswith(theirs):
                inner = (
                    key.removeprefix(theirs)
                    .replace("last_layer.weight_g", "weight_g")
                    .replace("last_layer.weight_v", "weight_v")
                )
                found[ours + (inner.replace(".mlp.", ".") if theirs == "_ema." else inner)] = value
    return found


def _inference(folder: Path, config: dict[str, Any], table: Comparison) -> None:
    """Features of sounds shorter and longer than the window, layer by layer, and the AudioSet head."""
    keys = load_file(folder / "inference_state.safetensors")
    head = arrays(folder / "inference_audioset_head.npz")
    keys |= {key: torch.from_numpy(value) for key, value in head.items() if key.startswith("head")}
    saved = read(Released(folder / "inference_state.safetensors", keys, ""), [f"model.num_heads={config['num_heads']}"])
    check = Checker("inference", arrays(folder / "inference.npz"), table)
    for case in ("short", "long"):
        wav, spec = check.stored[f"{case}_wave"], torch.from_numpy(check.stored[f"{case}_logmel_norm"])
        check(f"{case}_logmel_norm", saved.statistics.normalise(LogMel(MATPAC)(torch.from_numpy(wav))), **LOG_MEL)
        _features(
            check, f"{case}_precise", _windows(saved.learner, F.pad(spec, (0, -spec.shape[2] % config["patch_size"])))
        )
        _features(check, f"{case}_fast", _windows(saved.learner, F.pad(spec, (0, -spec.shape[2] % config["n_t"]))))
        model = Model(saved)
        embedded = [model.embed((row, model.sample_rate)).frames for row in wav]
        theirs = check.stored[f"{case}_precise_time_layers"][:, -1]
        table.check(
            f"inference/{case}_precise_time_layers (last, from the wave)", np.stack(embedded), theirs, **FROM_WAVE
        )
    spec = torch.from_numpy(check.stored["chunk_logmel"])
    encoder = saved.learner.model.encoder
    tokens = encoder.with_cls(encoder.tokens(saved.learner.grid.patchify(spec)))
    check("chunk_tokens_all_layers", torch.stack(encoder.transformer.layers(tokens), dim=1), **NETWORK)
    check.complete({"short_wave", "long_wave", "chunk_logmel"})
    _audioset(Checker("inference_audioset_head", head, table), saved, check.stored["long_wave"])


def _windows(learner: PretrainModule, spec: torch.Tensor) -> list[torch.Tensor]:
    """Features (B, layers, t, D') of each window in turn; the last one may be shorter."""
    found = []
    for window in torch.split(spec, learner.grid.frames, dim=2):
        grid = replace(learner.grid, time=window.shape[2] // learner.grid.patch_size[1])
        whole = F.pad(window, (0, learner.grid.frames - window.shape[2]))
        keep = learner.grid.crop_time(grid.time).expand(len(spec), -1)
        layers = learner.model.encoder.layers(learner.grid.patchify(whole), keep)
        found.append(torch.stack([grid.to_timesteps(layer) for layer in layers], dim=1))
    return found


def _features(check: Checker, name: str, windows: list[torch.Tensor]) -> None:
    """Time steps of every layer and their plain mean; "fast" mixes up the time steps of several windows, and so does
    this row.
    """
    steps = torch.cat(windows, dim=2)
    mixed = torch.stack(windows, dim=3).flatten(2, 3) if name.endswith("fast") else steps
    check(f"{name}_time_layers", mixed, **NETWORK)
    check(f"{name}_pooled_layers", steps.mean(dim=2), **NETWORK)
    check(f"{name}_pooled_emb", steps.mean(dim=2)[:, -1], **NETWORK)


def _audioset(check: Checker, saved: SavedModel, wav: np.ndarray) -> None:
    model, classifier = Model(saved), saved.classifier
    assert classifier is not None
    sounds = [(row, model.sample_rate) for row in wav]
    bands, dim = model.grid.freq, model.encoder.embed_dim
    found = [e for _, e in model.embed_many(sounds)]
    check("emb_time", np.stack([e.frames.reshape(-1, bands, dim).mean(axis=1) for e in found]), **NETWORK)
    pooled = torch.from_numpy(np.stack([e.frames.reshape(-1, bands, dim).mean(axis=(0, 1)) for e in found]))
    check("emb_pooled", pooled, **NETWORK)
    with torch.no_grad():
        check("probs_softmax", classifier(pooled).softmax(dim=-1), **NETWORK)  # ours are the sigmoid of the same logits
    check.complete({key for key in check.stored if key.startswith("head")})
