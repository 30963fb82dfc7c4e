"""The README's table is the leaderboard's: no number without its cell file."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_in_the_readme_is_the_one_of_its_pages():
    block = re.search(r"<!-- table \S+ \S+ -->\n(.*?)<!-- /table -->", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    page = (ROOT / "results" / "tables" / "synthetic-1x6-1.md").read_text()
    rows = [line for line in block.splitlines() if line.startswith("|")]
    assert len(rows) > 4
    assert "\n".join(rows) in page, "run `python -m bench leaderboard`"
