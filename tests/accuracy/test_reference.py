"""The reference tables that come with the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dse.errors import UnknownName
from dse.reference import list_tables, load_table
from dse.vocabulary import ReferenceEvidence


def test_tables_are_listed_and_read() -> None:
    assert "qlrcl_accuracy" in list_tables()
    rows = load_table("qlrcl_accuracy")
    assert rows[0]["lr_layer"] == "19"
    assert rows[0]["accuracy_pct"] == "77.7"


def test_every_row_of_every_table_names_its_source() -> None:
    for name in list_tables():
        assert all(row.get("source") for row in load_table(name)), name


def test_every_row_of_every_table_says_how_it_came_about() -> None:
    kinds = {kind.value for kind in ReferenceEvidence}
    for name in list_tables():
        assert {row["evidence"] for row in load_table(name)} <= kinds, name


def test_an_unknown_table_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'qlrcl_accuracy'"):
        load_table("qlrcl_acuracy")


def test_reading_tables_needs_no_pandas() -> None:
    code = "import sys, dse.reference as r; r.load_table('qlrcl_accuracy'); print('pandas' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
