"""The pages of docs/lecture: each runs and draws its picture, which is committed."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("skimage")

FOLDER = Path(__file__).parents[1] / "docs" / "lecture"
PAGES = sorted(p.stem for p in FOLDER.glob("p*.py"))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    importlib.import_module(page).picture(tmp_path / "picture.png")
    size = (tmp_path / "picture.png").stat().st_size
    committed = (FOLDER / f"{page}.png").stat().st_size
    assert 0.5 < size / committed < 2


def test_index() -> None:
    text = (FOLDER / "README.md").read_text()
    for page in PAGES:
        assert f"({page}.py)" in text
        assert f"({page}.png)" in text
    assert len(PAGES) == 13
