import re

import pytest

from animesion_jax import paper
from tests.conftest import SHARED


@pytest.mark.shared
def test_tables_match_the_text_of_the_paper():
    models = {short: model for model, short in paper.SHORT_NAMES.items()}
    text = (SHARED / "paper.txt").read_text()
    captions = re.findall(
        r"^Table (\d)\. Classification accuracy \(%\) for \*(.+?)\* trained for (\d+) epochs with batch size: (\d+) "
        r"and image size: (\d+)x\d+\.\n((?:.*\t.*\n|\n)+)",
        text,
        re.MULTILINE,
    )
    classes = re.findall(r"representing ([\d,]+)(?: character)? classes", text)
    datasets = dict(zip(("DAF:re", "moelmouto"), zip(("dafre", "moeimouto"), classes, strict=True), strict=True))
    assert len(captions) == len(paper.TABLES) == 4
    for table, (number, dataset, epochs, batch_size, image_size, body) in zip(paper.TABLES, captions, strict=True):
        assert (table.dataset, f"{table.num_classes:,}") == datasets[dataset]
        printed = tuple(map(int, (number, epochs, batch_size, image_size)))
        assert (table.number, table.epochs, table.batch_size, table.image_size) == printed
        # "after each 20 epochs if training for 50 epochs, and after 50 epochs if training for 200 epochs"
        assert f"{table.decay_epochs} epochs if training for {table.epochs} epochs" in text
        rows = {}
        for line in body.strip().splitlines()[2:]:
            short, *cells = line.split("\t")
            for pretrained, pair in ((False, cells[:2]), (True, cells[2:])):
                if pair[0]:
                    rows[models[short], pretrained] = tuple(map(float, pair))
        assert table.rows == rows
    assert sum(len(table.rows) for table in paper.TABLES) == 34
