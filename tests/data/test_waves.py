"""Windows of packed waves equal those of packed spectrograms, including edges and joined windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unheard.audio.frontend import MATPAC, MSM_MAE_16K
from unheard.audio.frontend_kinds import AnyFrontendConfig, build_frontend
from unheard.audio.kaldi import AUDIOMAE, MASKSPEC, MaskSpecConfig
from unheard.audio.waveform import read
from unheard.data.corpus import Corpus, open_corpus
from unheard.data.loader import PretrainLoader
from unheard.data.mapping import open_store
from unheard.data.open_store import Cache, open_corpus_store
from unheard.data.pack import pack
from unheard.data.pack_clip import PackConfig
from unheard.data.prefetch import BatchPlan, RankSlice
from unheard.data.store import Store, WaveStore
from unheard.data.windows.crops import CropSampler
from unheard.errors import ConfigError, DataError
from unheard.model.patches import Grid
from unheard.objectives.base import Batch

PLAIN = MaskSpecConfig(f_min_jitter=0, f_max_jitter=0)
FRONTENDS: dict[str, AnyFrontendConfig] = {
    "log-mel": MSM_MAE_16K,
    "matpac": MATPAC,
    "kaldi-fbank": AUDIOMAE,
    "maskspec": PLAIN,
}
WIDTH = 48


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Corpus]:
    """The same lengths at both rates: very short clips, clips shorter and longer than a window."""
    found = {}
    for rate in (16000, 32000):
        folder, rng = tmp_path_factory.mktemp(str(rate)), np.random.default_rng(rate)
        for number, seconds in enumerate((0.001, 0.03, 0.11, 0.2, 0.3, 0.47, 0.6, 0.9, 1.3)):
            soundfile.write(
                folder / f"{number}.wav", rng.normal(0, 0.1, max(1, round(seconds * rate))), rate, subtype="PCM_16"
            )
        found[rate] = open_corpus(folder)
    return found


def both(corpora: dict[int, Corpus], name: str) -> tuple[Store, WaveStore]:
    config = FRONTENDS[name]
    corpus = corpora[config.sample_rate]
    waves = pack(corpus, PackConfig(config, "int16"))
    assert isinstance(waves, WaveStore)
    return pack(corpus, config), waves


def batches(store: Store, short: str = "pad", steps: int = 4, share: tuple[int, int] = (0, 1)) -> list[Batch]:
    sampler = CropSampler(store.frames, WIDTH, seed=3, short=short, align=16)
    grid = Grid.of(store.frontend.n_mels, WIDTH, (16, 16))
    with PretrainLoader(
        store, sampler, grid, store.statistics, BatchPlan(range(steps), RankSlice(8, *share))
    ) as loader:
        return list(loader)


@pytest.mark.parametrize("short", ["pad", "join"])
@pytest.mark.parametrize("name", FRONTENDS)
def test_windows_of_waves_are_those_of_packed_spectrograms(corpora: dict[int, Corpus], name: str, short: str) -> None:
    specs, waves = both(corpora, name)
    assert specs.frames.tolist() == waves.frames.tolist()
    for a, b in zip(batches(specs, short), batches(waves, short), strict=True):
        assert torch.equal(a.clips, b.clips) and torch.equal(a.valid, b.valid)
        difference = (a.spec - b.spec).abs()
        assert difference.max() < 0.02  # float16 rounding of a logarithm near -16 over a deviation near 4
        assert difference.mean() < 1e-3


@pytest.mark.parametrize("name", FRONTENDS)
def test_statistics_and_clips_agree(corpora: dict[int, Corpus], name: str) -> None:
    specs, waves = both(corpora, name)
    assert waves.statistics.mean == pytest.approx(specs.statistics.mean, abs=1e-3)
    assert waves.band_statistics.std == pytest.approx(specs.band_statistics.std, abs=1e-3)
    for number in range(len(waves)):
        assert np.abs(waves.clip(number) - specs.clip(number)).max() < 0.03


def test_sixteen_bit_files_come_through_unchanged(corpora: dict[int, Corpus]) -> None:
    _, waves = both(corpora, "log-mel")
    corpus = corpora[16000]
    for number, name in enumerate(waves.names):
        stored = waves.samples(number)
        assert stored.dtype == np.int16
        assert np.array_equal(stored, soundfile.read(corpus.root / name, dtype="int16")[0])


@pytest.mark.parametrize("short", ["pad", "join"])
def test_the_sound_of_a_window_lies_where_its_frames_do(corpora: dict[int, Corpus], short: str) -> None:
    _, waves = both(corpora, "log-mel")
    for batch in batches(waves, short):
        assert batch.wav is not None and batch.wav.shape == (8, WIDTH * 160)
        for row in range(8):
            first = round(float(batch.start_seconds[row]) * 16000)
            sound = waves.samples(int(batch.clips[row]))[first : first + WIDTH * 160] / np.float32(2**15)
            assert np.array_equal(batch.wav[row, : len(sound)].numpy(), sound)
            if short == "pad":
                assert not batch.wav[row, len(sound) :].any()
    assert batches(pack(corpora[16000], MSM_MAE_16K))[0].wav is None


def test_disk_holds_the_same_and_tells_damage(corpora: dict[int, Corpus], tmp_path: Path) -> None:
    corpus = corpora[16000]
    written = pack(corpus, PackConfig(MSM_MAE_16K, "int16"), tmp_path / "packed", shard_bytes=30_000)
    again = open_store(tmp_path / "packed")
    assert isinstance(again, WaveStore) and len(again.shards) > 1 and again.header.kind == "wav"
    again.verify()
    for a, b, c in zip(
        batches(written), batches(again), batches(pack(corpus, PackConfig(MSM_MAE_16K, "int16"))), strict=True
    ):
        assert torch.equal(a.spec, b.spec) and torch.equal(a.spec, c.spec)
    shard = tmp_path / "packed" / "shard-00001.bin"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"shard-00001\.bin has"):
        open_store(tmp_path / "packed")


def test_bands_vary_by_window_alone(corpora: dict[int, Corpus]) -> None:
    waves = pack(corpora[32000], PackConfig(MASKSPEC, "int16"))
    plain = pack(corpora[32000], PackConfig(PLAIN, "int16"))
    whole, again = batches(waves), batches(waves)
    for a, b, c in zip(whole, again, batches(plain), strict=True):
        assert torch.equal(a.spec, b.spec)
        assert (a.spec - c.spec).abs().mean() > 1e-3
    shares = [batches(waves, share=(rank, 2)) for rank in range(2)]
    for step, batch in enumerate(whole):
        assert torch.allclose(torch.cat([share[step].spec for share in shares]), batch.spec, atol=1e-5)


def test_draws_are_uniform_and_functions_of_their_place() -> None:
    sampler = CropSampler([100] * 1000, 10, seed=1)
    positions = np.arange(1000)
    draws = sampler.jitter(0, positions)
    assert draws.shape == (1000, 2) and draws.dtype == np.float32 and draws.min() >= 0 and draws.max() < 1
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.05
    assert abs(np.corrcoef(draws.T)[0, 1]) < 0.1
    assert np.array_equal(sampler.jitter(0, positions[500:]), draws[500:])
    assert not np.array_equal(sampler.jitter(1, positions), draws)


def test_another_rate_is_resampled_on_the_way(corpora: dict[int, Corpus]) -> None:
    waves = pack(corpora[32000], PackConfig(MSM_MAE_16K, "int16", sample_rate=32000))
    assert isinstance(waves, WaveStore)
    assert waves.sample_rate == 32000 and waves.hop == 320
    batch = batches(waves, steps=1)[0]
    assert batch.wav is not None and batch.wav.shape == (8, WIDTH * 320)
    direct = pack(corpora[32000], MSM_MAE_16K)
    assert waves.frames.tolist() == direct.frames.tolist()
    inner = (batch.spec - batches(direct, steps=1)[0].spec).abs()[
        :, :70, 3:-3
    ]  # bands that both resamplers pass, away from the ends
    assert inner.median() < 0.01


def test_what_a_recipe_needs_is_asked_for_by_name(corpora: dict[int, Corpus], tmp_path: Path) -> None:
    pack(corpora[32000], PackConfig(MASKSPEC, "int16"), tmp_path / "waves")
    pack(corpora[32000], PLAIN, tmp_path / "specs")
    assert isinstance(open_corpus_store(tmp_path / "waves", MASKSPEC, Cache(tmp_path), store_kind="wav"), WaveStore)
    still = open_corpus_store(tmp_path / "waves", PLAIN, Cache(tmp_path), store_kind="wav")
    assert still.frontend == PLAIN and still.fingerprint == open_store(tmp_path / "waves").fingerprint
    with pytest.raises(DataError, match="n_mels is 128, wanted 64"):
        open_corpus_store(tmp_path / "waves", replace(PLAIN, n_mels=64), Cache(tmp_path), store_kind="wav")
    with pytest.raises(DataError, match="holds wav shards, this recipe needs spec"):
        open_corpus_store(tmp_path / "waves", PLAIN, Cache(tmp_path))
    with pytest.raises(DataError, match="--store wav"):
        open_corpus_store(tmp_path / "specs", MASKSPEC, Cache(tmp_path), store_kind="wav")
    with pytest.raises(ConfigError, match=r"data\.input=wav"):
        open_corpus_store(tmp_path / "specs", MASKSPEC, Cache(tmp_path))
    assert isinstance(
        open_corpus_store(corpora[32000].root, MASKSPEC, Cache(tmp_path / "cache"), store_kind="wav"), WaveStore
    )


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", np.array([0.5, 1.5, -1.5, 0.25] * 100, np.float32), 16000, subtype="FLOAT")
    waves = pack(open_corpus(tmp_path), PackConfig(MSM_MAE_16K, "int16"))
    assert isinstance(waves, WaveStore)
    assert waves.samples(0)[:4].tolist() == [16384, 32767, -32768, 8192]
    assert (
        np.abs(
            waves.clip(0)
            - build_frontend(MSM_MAE_16K).spectrogram_cpu(np.clip(read(tmp_path / "loud.wav")[0], -1, 1 - 2**-15))
        ).max()
        < 1e-3
    )
