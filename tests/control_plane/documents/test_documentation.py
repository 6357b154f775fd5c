from __future__ import annotations

import re
from pathlib import Path

import pytest

from control_plane.database import Database
from tests.control_plane.documents.house import ADA, House

DOCS = Path(__file__).parents[3] / "docs"
_YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["targets.md", "policies.md", "masking.md"])
def test_the_documents_of_a_page_can_be_applied(
    database: Database, tmp_path: Path, page: str
) -> None:
    house = House(database, tmp_path / "authority")
    blocks = [
        block
        for block in _YAML.findall((DOCS / page).read_text())
        if block.startswith("apiVersion:")
    ]
    assert blocks
    for block in blocks:
        changes = house.store.apply(block, ADA).changes
        assert {change.action for change in changes} == {"created"}
