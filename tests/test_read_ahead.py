"""Threads read sounds ahead: order, errors, bounded memory, and the same embeddings as without them."""

import threading
import time

import numpy as np
import pytest
import soundfile

from unheard.embedding.bulk import embed_table
from unheard.embedding.job import Options
from unheard.embedding.loading import load
from unheard.errors import AudioError, ConfigError
from unheard.read_ahead import WAITING, in_background, read_ahead

RATE = 16000


@pytest.fixture
def model():
    return load("random-tiny")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    for index, seconds in enumerate((0.1, 7.3, 0.5, 2.08, 31.0, 1.0, 2.5, 4.16, 0.02)):
        soundfile.write(folder / f"{index}.wav", rng.standard_normal(int(seconds * RATE)) * 0.1, RATE)
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_sources_come_in_order_with_their_items(readers):
    def read(count):
        for item in range(count):
            time.sleep(0.001 * (count % 3))
            yield (count, item)

    found = [(source, list(items)) for source, items in read_ahead(range(40), read, readers)]
    assert found == [(count, [(count, item) for item in range(count)]) for count in range(40)]


def test_a_single_source_is_read_by_the_caller():
    before = threading.active_count()
    ((_, items),) = read_ahead([5], lambda count: (threading.active_count() for _ in range(count)), 3)
    assert list(items) == [before] * 5


def test_an_error_is_raised_where_the_items_are_taken():
    def read(source):
        yield source
        if source == 2:
            raise AudioError("no sound")
        yield source

    found, failed = [], []
    for source, items in read_ahead(range(5), read, 2):
        try:
            found += list(items)
        except AudioError:
            failed.append(source)
    assert failed == [2] and found == [0, 0, 1, 1, 3, 3, 4, 4]


def test_readers_wait_when_their_items_are_not_taken():
    made = [0] * 4

    def read(source):
        for item in range(10_000):
            made[source] += 1
            yield item

    ahead = read_ahead(range(4), read, 3)
    _, items = next(ahead)
    assert next(iter(items)) == 0
    time.sleep(0.3)
    assert max(made) <= WAITING + 2 and made[2] >= WAITING
    before = threading.active_count()
    ahead.close()
    assert threading.active_count() == before - 3


def test_a_background_iteration_ends_when_it_is_left():
    before = threading.active_count()
    endless = in_background(iter(int, 1), 1)
    assert next(endless) == 0
    endless.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("options", [Options(), Options(hop=0.04), Options(pool="mean+std", frames=False)])
def test_embeddings_do_not_depend_on_workers_and_batches(model, sounds, options):
    wanted = None
    for workers, batch in ((0, 16), (1, 16), (4, 3), (2, 100)):
        model.set_speed(workers, batch)
        found = list(model.embed_many(sounds, options))
        assert [path for path, _ in found] == sounds
        wanted = wanted or found
        for (_, one), (_, other) in zip(wanted, found, strict=True):
            np.testing.assert_allclose(one.scene, other.scene, atol=1e-5)
            np.testing.assert_allclose(one.frames, other.frames, atol=1e-5)
            np.testing.assert_array_equal(one.times_ms, other.times_ms)


def test_tables_do_not_depend_on_workers(model, sounds, tmp_path):
    for window in (None, 1.0):
        tables = []
        for workers in (0, 3):
            model.set_speed(workers)
            out = tmp_path / f"{window}-{workers}.npz"
            embed_table(model, sounds, out, Options(frames=False, window=window))
            with np.load(out) as arrays:
                tables.append((arrays["path"].tolist(), arrays["embedding"]))
        assert tables[0][0] == tables[1][0]
        np.testing.assert_allclose(tables[0][1], tables[1][1], atol=1e-5)


def test_a_damaged_sound_among_others_is_passed_on(model, sounds, tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    skipped = []
    given = [sounds[0], tmp_path / "text.wav", *sounds[1:]]
    found = model.embed_many(given, Options(), lambda sound, error: skipped.append(sound))
    assert [sound for sound, _ in found] == sounds and skipped == [tmp_path / "text.wav"]
    with pytest.raises(AudioError, match=r"text\.wav"):
        list(model.embed_many(given))


def test_bf16_is_close_and_another_identity(sounds, tmp_path):
    whole, half = load("random-tiny"), load("random-tiny", precision="bf16")
    one, other = (np.stack([e.scene for e in each.embed(sounds)]) for each in (whole, half))
    assert other.dtype == np.float32 and not np.array_equal(one, other)
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    assert cosine.min() > 0.999
    embed_table(whole, sounds, tmp_path / "emb.npz")
    with pytest.raises(ConfigError, match="precision is float32, now bf16"):
        embed_table(half, sounds, tmp_path / "emb.npz", resume=True)
    embed_table(half, sounds, tmp_path / "half.npz")
    with pytest.raises(ConfigError, match="precision is bf16, now float32"):
        embed_table(whole, sounds, tmp_path / "half.npz", resume=True)


def test_wrong_speeds(model):
    with pytest.raises(ConfigError, match="batch_size must be at least 1; got 0"):
        model.set_speed(batch_size=0)
    with pytest.raises(ConfigError, match="workers must be at least 0; got -1"):
        model.set_speed(workers=-1)
