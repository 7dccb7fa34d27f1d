"""The rows of metrics.jsonl."""

import json

from animesion_jax.workdir.rows import read_rows


def test_read_rows_skips_damaged_rows(tmp_path, caplog):
    rows = [{"step": step, "epoch": step / 2, "split": "train", "loss": 1.5} for step in range(4)]
    lines = [json.dumps(row) for row in rows]
    damaged = [*lines[:2], lines[2][:20], "[1]", *lines[3:], lines[0][:30]]
    (tmp_path / "metrics.jsonl").write_text("\n".join(damaged))
    assert read_rows(str(tmp_path)) == [*rows[:2], rows[3]]
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("animesion_jax")]
    assert len(messages) == 2 and "line 3 is damaged" in messages[0] and "line 4 is damaged" in messages[1]
