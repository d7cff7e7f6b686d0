"""P-Match against Table 1 of the LlamaDuo paper (arXiv 2408.13467)."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from llamaduo_gui.evaluation.statistics import STATISTICS, p_match_of_values

# 100 * 36 / 41 is 87.80; the paper prints 97.80.
THE_PAPERS_SLIP = ("Coding", "Gemini 1.5 Flash", "similarity", "coverage_70")

Entry = tuple[str, str, str, str]


def entries(path: Path) -> tuple[dict[Entry, dict[str, list[float]]], dict[Entry, float]]:
    """Values by kind and the printed P-Match of every task x judge x metric x statistic."""
    values: dict[Entry, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    printed: dict[Entry, float] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            for statistic in STATISTICS:
                entry = (row["task"], row["judge"], row["metric"], statistic)
                if row["kind"] == "p_match":
                    printed[entry] = float(row[statistic])
                else:
                    values[entry][row["kind"]].append(float(row[statistic]))
    return values, printed


@pytest.mark.shared_data
def test_every_p_match_of_table_1_reproduces_but_the_papers_slip(shared_data: Path) -> None:
    path = shared_data.parent / "paper" / "table1.csv"
    if not path.is_file():
        pytest.skip("the shared folder has no copy of Table 1")
    values, printed = entries(path)
    assert len(printed) == 72
    computed = {
        entry: p_match_of_values(kinds["local"], kinds["service"])
        for entry, kinds in values.items()
    }
    assert set(computed) == set(printed)
    # Half a unit of the last printed digit, plus what binary fractions add.
    wrong = [
        entry
        for entry, value in computed.items()
        if value is None or abs(value - printed[entry]) > 0.005 + 1e-6
    ]
    assert wrong == [THE_PAPERS_SLIP]
    assert computed[THE_PAPERS_SLIP] == pytest.approx(87.80, abs=0.005)
    assert printed[THE_PAPERS_SLIP] == 97.80
