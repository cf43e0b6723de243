"""The masked pass, which every method here shares; objectives differ in what they compute from it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from unheard.errors import ConfigError
from unheard.model.decoder import build_decoder
from unheard.model.ema import EmaTeacher
from unheard.model.encoder import Encoder, take
from unheard.model.masking import Mask
from unheard.model.mixtures import Sources, retained
from unheard.model.patches import Grid
from unheard.model.predictor import Predictor
from unheard.model.sizes import ModelConfig
from unheard.model.targets import TargetConfig, averaged


@dataclass
class MaskedPass:
    """All outputs of one masked pass; objectives read these and nothing else of the model.

    Parameters
    ----------
    patches : Float[Tensor, "B N P"]
        The normalised input, cut into patches.
    mask : Mask
        ``keep`` (B V, K) and ``hide`` (B V, M); V views of each window, usually one.
    visible : Float[Tensor, "BV K D"]
        Encoder output of the visible patches.
    cls : Float[Tensor, "BV D"] or None
        Encoder output of the CLS token.
    decoded : Float[Tensor, "BV N E"]
        Decoder output of every patch; E is 0 when the decoder did not run.
    predicted : Float[Tensor, "BV M R D"] or None
        The predictor's estimates of the teacher's latents at hidden patches.
    target : Float[Tensor, "BV M D"] or None
        The teacher's latents at hidden patches, without gradient.
    whole : Float[Tensor, "B N D"] or None
        The targets of all patches of each window, if the teacher encodes all of them.
    last : Float[Tensor, "B N D"] or None
        The same from the last blocks only, if the targets of the CLS token differ (``teacher.utterance_layers``).
    retained : Float[Tensor, "BV/2 M D"] or None
        The mean targets of both sources at hidden patches of the mixtures, the second half of the windows.
    best : Int[Tensor, "BV M"] or None
        Index of the hypothesis with the largest cosine to the target, if there are several.
    layers : dict of Float[Tensor, "BV K D"]
        Visible patches after those blocks of the encoder that an objective reads, by number, counted from 1.
    progress : Float[Tensor, ""]
        Fraction of the run that is done, in [0, 1]; temperatures depend on it.
    diagnostics : dict of Tensor
        Values that objectives measured, each a scalar by name, for the metrics log.
    terms : dict of Tensor
        Parts of the loss of an objective, each a scalar by name, for the metrics log. As losses, they are sums over a
        part of the batch, divided by the totals of the batch.
    sums : dict of Tensor
        Sums that an objective measured in this pass, without gradient, by name. They are added up over all processes
        after the pass, for its `Objective.after_pass`. Each objective begins with none.
    """

    patches: Float[Tensor, "B N P"]
    mask: Mask
    visible: Float[Tensor, "BV K D"]
    cls: Float[Tensor, "BV D"] | None
    decoded: Float[Tensor, "BV N E"]
    predicted: Float[Tensor, "BV M R D"] | None = None
    target: Float[Tensor, "BV M D"] | None = None
    whole: Float[Tensor, "B N D"] | None = None
    last: Float[Tensor, "B N D"] | None = None
    retained: Float[Tensor, "half M D"] | None = None
    best: Int[Tensor, "BV M"] | None = None
    layers: dict[int, Float[Tensor, "BV K D"]] = field(default_factory=dict)
    progress: Float[Tensor, ""] = field(default_factory=lambda: torch.zeros(()))
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)

    def best_prediction(self) -> Float[Tensor, "B M D"]:
        """Return the prediction of each hidden patch; of several hypotheses, the one nearest to the target.

        Raises
        ------
        ConfigError
            When the model was built without a predictor.
        """
        if self.predicted is None:
            raise ConfigError("this model predicts no latents; build it with objectives.latents.weight above 0")
        if self.best is None:
            return self.predicted[:, :, 0]
        return torch.take_along_dim(self.predicted, self.best[:, :, None, None], dim=2)[:, :, 0]


@torch.no_grad()
def best_hypothesis(predicted: Float[Tensor, "B M R D"], target: Float[Tensor, "B M D"]) -> Int[Tensor, "B M"]:
    """Return which of the R hypotheses has the largest cosine with the target."""
    return F.cosine_similarity(predicted.float(), target[:, :, None].float(), dim=-1).argmax(dim=-1)


class MaskedModel(nn.Module):
    """Encoder and decoder, with a latent predictor and its teacher where an objective needs them.

    Parameters
    ----------
    config : ModelConfig
    grid : Grid
    latents : bool
        Whether to build the predictor and the teacher.
    teacher_copied : bool
        Whether the teacher starts as a copy of the student.
    targets : TargetConfig
        What the teacher encodes, and how its layers become targets.

    Attributes
    ----------
    use_decoder : bool
        Whether a pass runs the decoder; `without_decoder` switches it off when no objective reads it.
    num_hypotheses : int
        Predictions of the predictor for each hidden patch.
    layers : tuple of int
        Blocks of the encoder, counted from 1, whose outputs a pass returns.
    """

    layers: tuple[int, ...] = ()

    def __init__(
        self,
        config: ModelConfig,
        grid: Grid,
        latents: bool = False,
        teacher_copied: bool = True,
        targets: TargetConfig = TargetConfig(),
    ) -> None:
        super().__init__()
        self.grid, self.use_decoder, self.num_hypotheses = grid, True, config.num_hypotheses
        self.encoder = Encoder(config, grid)
        self.decoder = build_decoder(config, grid)
        widths, bias = (self.decoder.embed_dim, self.encoder.embed_dim), config.decoder_projection == "affine"
        self.predictor = Predictor(*widths, config.num_hypotheses, bias) if latents else None
        self.teacher = EmaTeacher(self.encoder, teacher_copied, targets) if latents else None

    def forward(
        self,
        patches: Float[Tensor, "B N P"],
        mask: Mask,
        valid: Bool[Tensor, "B N"] | None = None,
        sources: Sources | None = None,
    ) -> MaskedPass:
        """Encode the visible patches, decode all patches, and apply the teacher.

        The mask has a row for each window, or V rows in turn, its views. Visible patches are encoded once for each
        view. A teacher that encodes all patches runs once for each window.

        Parameters
        ----------
        valid : Bool[Tensor, "B N"], optional
            False on patches of padding, for a teacher that normalises over patches.
        sources : Sources, optional
            What is mixed into the first half of the windows to make the second half.
        """
        if self.layers:
            visible, cls, layers = self.encoder.with_layers(patches, mask.keep, self.layers)
        else:
            (visible, cls), layers = self.encoder(patches, mask.keep), {}
        unused = visible.new_zeros(visible.shape[0], patches.shape[1], 0)
        decoded = self.decoder(visible, mask, cls) if self.use_decoder else unused
        out = MaskedPass(patches, mask, visible, cls, decoded, layers=layers)
        if self.predictor is not None and self.use_decoder:
            out.predicted = self.predictor(take(decoded, mask.hide))
        if self.teacher is not None:
            self._add_targets(out, self.teacher, valid)
            if sources is not None and valid is not None and out.whole is not None:
                self._add_retained(out, self.teacher, valid, sources)
        return out

    def _add_targets(self, out: MaskedPass, teacher: EmaTeacher, valid: Bool[Tensor, "B N"] | None) -> None:
        hide = out.mask.hide
        if teacher.config.sees == "all":
            layers = teacher.layers(self.encoder, out.patches)
            out.whole = averaged(layers, teacher.config, valid)
            if teacher.config.utterance_layers is not None:
                out.last = averaged(layers[-teacher.config.utterance_layers :], teacher.config, valid)
            out.target = take(out.whole, hide)
        else:
            out.target = teacher(self.encoder, out.patches, hide)
        if out.predicted is not None and out.predicted.shape[2] > 1:
            out.best = best_hypothesis(out.predicted, out.target)

    @torch.no_grad()
    def _add_retained(self, out: MaskedPass, teacher: EmaTeacher, valid: Bool[Tensor, "B N"], sources: Sources) -> None:
        assert out.whole is not None
        real = sources.valid.gather(1, sources.outside)
        other = teacher(self.encoder, sources.patches, sources.outside, real)
        half = sources.valid.shape[0]
        targets = retained(out.whole[:half], other, valid[:half], sources)
        out.retained = take(targets, out.mask.hide[out.mask.hide.shape[0] // 2 :])

    def without_decoder(self) -> None:
        """Skip the decoder and the predictor in every pass; their weights stay unchanged."""
        self.use_decoder = False
        self.decoder.requires_grad_(False)
        if self.predictor is not None:
            self.predictor.requires_grad_(False)
