"""The page of a study as somebody sees it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from carpus import config
from carpus.study.report import page
from study import long_names


@pytest.mark.parametrize("width", [1300, 1100])
def test_no_table_is_cut(chromium: Any, tiny: Callable[..., config.Config], tmp_path: Path, width: int) -> None:
    page.write(tmp_path / "page.html", long_names.judgement(tmp_path / "runs", tiny()), title="Long names")
    shown = chromium.new_page(viewport={"width": width, "height": 900})
    shown.goto(f"file://{tmp_path}/page.html")
    cut = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    assert shown.locator(".scroll").count() >= 4
    assert shown.evaluate(cut) == 0
    shown.close()
