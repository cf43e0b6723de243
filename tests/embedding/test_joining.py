"""A table whose parts were joined when the process died."""

import numpy as np
import pytest
import soundfile

from unheard.embedding import tables
from unheard.embedding.bulk import embed_table
from unheard.embedding.loading import load
from unheard.embedding.table_files import read_blocks


@pytest.mark.parametrize("end", [".parquet", ".npz", ".csv"])
def test_a_kill_between_the_table_and_its_parts_doubles_no_row(tmp_path, end, monkeypatch):
    folder, model = tmp_path / "audio", load("random-tiny")
    folder.mkdir()
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", np.full(4000, 0.1 * number), 16000)
    out = tmp_path / f"emb{end}"
    monkeypatch.setattr(tables, "discard", lambda parts: 1 / 0)  # what comes after the table is in its place
    with pytest.raises(ZeroDivisionError):
        embed_table(model, [folder], out)
    monkeypatch.undo()
    assert out.exists() and list(tmp_path.glob(".emb*.parts"))
    report = embed_table(model, [folder], out, resume=True)
    assert (report.rows, report.embedded) == (6, 0)
    assert sum(len(block) for block in read_blocks(out)) == 6
