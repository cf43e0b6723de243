"""Writing of checkpoints and of the latest model of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unheard.data.shard_files import Shards, Verification
from unheard.data.store import Store
from unheard.training.checkpoints import RunState, save_checkpoint
from unheard.training.engine import Engine
from unheard.training.session import Session
from unheard.version import __version__
from unheard.weights.checkpoint import Provenance, save_model


class CheckpointWriter:
    """Save checkpoints and the latest model of a run, from the first process only.

    Parameters
    ----------
    run : Path
    session : Session
    store : Store
        Packed corpus, verified against its checksums as it is read.
    engine : Engine
    targets : sequence of Shards
        Stored targets, verified as well.
    """

    def __init__(
        self, run: Path, session: Session, store: Store, engine: Engine, targets: Sequence[Shards] = ()
    ) -> None:
        self.run, self.session, self.store, self.engine = run, session, store, engine
        self.verification = Verification(store, *targets) if engine.rank == 0 else None

    def save(self, step: int) -> None:
        """Write ``checkpoints/step-...`` and ``model/``.

        Raises
        ------
        DataError
            When the part of the packed corpus that was read differs from its checksums. After the last step, the whole
            corpus is verified.
        """
        if self.verification is not None:
            self.verification.check(wait=step >= self.session.total)
            state = RunState(step, self.session.total, self.engine.kernel)
            keep_checkpoints = self.session.recipe.training.keep_checkpoints
            save_checkpoint(self.run, self.engine.learner, self.engine.optimiser, state, keep_checkpoints)
            self.save_model(step)
        self.engine.wait()

    def save_model(self, step: int) -> None:
        """Write ``model/``."""
        recipe, statistics = self.session.recipe, self.session.statistics
        save_model(self.run / "model", self.engine.learner, recipe, statistics, self.provenance(step))

    def provenance(self, step: int) -> Provenance:
        """Return the entries of the model card that describe this run."""
        trained = {
            "steps": f"{step} of {self.session.total}",
            "crops": step * self.session.recipe.training.batch_size,
            "corpus": f"{len(self.store.frames)} clips, {self.store.seconds_total / 3600:.2f} hours",
            "seed": self.session.recipe.training.seed,
        }
        return Provenance(source=f"pre-trained with unheard {__version__}", trained=trained)
