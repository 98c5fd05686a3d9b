"""The pages without a browser; what is drawn and clicked is in tests/browser."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("streamlit")

from streamlit.testing.v1 import AppTest

from carpus.viewer import server, sources

APP = Path(server.__file__).with_name("app.py")


@pytest.fixture(autouse=True)
def _quiet() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_shown", None)
        yield


def test_every_page_opens(dataset: Path, trained: Path) -> None:
    server.show(sources.open_paths([dataset, trained]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert not app.exception
    assert [box.value for box in app.selectbox][:2] == ["data", "run"]


def test_a_run_alone_asks_for_its_data(trained: Path) -> None:
    server.show(sources.open_paths([trained]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert "Give the data folder too" in app.info[0].value


def test_damaged_decisions_are_named(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    (root / "decisions.csv").write_text("image,bone,decision\na,Radius,perhaps\n")
    server.show(sources.open_paths([root]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert "decisions.csv: line 2" in app.error[0].value
