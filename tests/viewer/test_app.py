"""The pages without a browser; what is drawn and clicked is in tests/browser."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

pytest.importorskip("streamlit")

from starlette.requests import Request
from streamlit.testing.v1 import AppTest

from carpus.viewer import server, sources

APP = Path(server.__file__).with_name("app.py")


@pytest.fixture(autouse=True)
def _quiet() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_shown", None)
        yield


def _address(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}


def _at_study(trained: Path, folder: Path) -> AppTest:
    """A run and a study, by a link to the study."""
    (folder / "study").mkdir()
    (folder / "study/study.yaml").touch()
    server.show(sources.open_paths([trained, folder / "study"]))
    app = AppTest.from_file(str(APP), default_timeout=120)
    app.query_params["tab"] = "study"
    return app.run()


def test_every_page_opens(dataset: Path, trained: Path) -> None:
    server.show(sources.open_paths([dataset, trained]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert not app.exception
    assert [box.value for box in app.selectbox][:2] == ["data", "run"]


def test_without_images_the_first_page_tells_of_runs_and_studies(trained: Path, tmp_path: Path) -> None:
    app = _at_study(trained, tmp_path)
    assert [tab.label for tab in app.tabs] == ["run", "study"]
    assert [told.value for told in app.info if "carpus evaluate" in told.value] == []  # the run's tab is not open
    assert f"carpus study report {tmp_path / 'study'}" in app.info[-1].value
    assert _address(app)["tab"] == "study"


def test_a_run_of_a_study_shows_its_scores_on_both_parts_of_the_test(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    scores = run / "scores.csv"
    table = pandas.read_csv(scores)
    table["split"] = ["val", "public", "private"] * (len(table) // 3) + ["private"] * (len(table) % 3)
    table.to_csv(scores, index=False)
    server.show(sources.open_paths([run]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert not app.exception
    assert not app.error
    assert "##### Learning curves" in [text.value for text in app.markdown]


def test_tabs_of_understand_keep_the_default_they_began_with(trained: Path, tmp_path: Path) -> None:
    app = _at_study(trained, tmp_path)
    app.session_state.view = app.session_state.view.but(tab="")  # as a click on the other tab does
    app.run()
    assert app.session_state.first_tab == "study"


def test_the_address_holds_what_understand_compares(dataset: Path, trained: Path) -> None:
    def understand() -> None:
        from carpus.viewer.screens import understand

        understand.page()

    server.show(sources.open_paths([dataset, trained]))
    app = AppTest.from_function(understand, default_timeout=120).run()
    assert not app.exception
    assert _address(app) == {"first": "data", "second": "run"}


def test_the_address_holds_the_augmentation(dataset: Path) -> None:
    def augmentation() -> None:
        from carpus.viewer.screens import augmentation

        augmentation.page()

    workspace = sources.open_paths([dataset])
    server.show(workspace)
    names = [entry.name for entry in workspace.entries]
    given = {"case": names[3], "recipe": "fcn_resnet50", "change": "rotation_deg=30", "seed": "7", "outlined": "0"}
    app = AppTest.from_function(augmentation, default_timeout=120)
    for name, value in given.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    shown = [*app.selectbox, *app.text_input, *app.number_input, *app.toggle]
    assert {each.key: each.value for each in shown} == {
        "recipe": "fcn_resnet50",
        "image": names[3],
        "change": "rotation_deg=30",
        "seed": 7,
        "outlined": False,
    }
    assert "rotation_deg 30" in app.caption[0].value
    app.number_input[0].set_value(8)
    app.selectbox[1].set_value(names[4]).run()
    assert _address(app) == given | {"seed": "8", "case": names[4], "first": "data"}


def test_an_error_in_a_change_names_what_was_typed(dataset: Path) -> None:
    def augmentation() -> None:
        from carpus.viewer.screens import augmentation

        augmentation.page()

    server.show(sources.open_paths([dataset]))
    app = AppTest.from_function(augmentation, default_timeout=120)
    app.query_params["change"] = "elastic=9"
    app.run()
    assert app.error[0].value == "elastic=9: elastic: expected number 0..1, got 9"


def test_one_source_alone_tells_its_bones_and_poses(dataset: Path) -> None:
    def understand() -> None:
        from carpus.viewer.screens import understand

        understand.page()

    server.show(sources.open_paths([dataset]))
    app = AppTest.from_function(understand, default_timeout=120).run()
    app.button[0].click().run()
    assert not app.exception
    told = [text.value for text in app.markdown]
    assert any("12 of 12 images have labels, of 6 patients" in text for text in told)
    assert "##### Pose" in told
    bones, kinds = (table.value for table in app.dataframe)
    assert (len(bones), set(bones["labelled"])) == (29, {12})
    assert kinds[kinds["kind"] == "pose"][["train", "test"]].to_numpy().sum() == 12


def test_an_unusable_device_is_told(dataset: Path, trained: Path) -> None:
    now = server.show(sources.open_paths([dataset, trained], device="tpu"))
    (route,) = [route for route in server._routes() if route.path == "/carpus/labels/{place:int}"]
    scope = {"type": "http", "path_params": {"place": 0}, "query_string": b"layer=run", "headers": []}
    answer = route.endpoint(Request(scope))
    assert answer.status_code == 422
    assert b"tpu" in answer.body
    app = AppTest.from_file(str(APP), default_timeout=120)
    app.query_params["first"] = "run"
    app.run()
    next(button for button in app.button if button.label == "Measure all").click().run()
    assert "tpu" in app.error[0].value
    assert not now.kept


def test_what_could_not_be_read_is_told(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    link = root / "train/DCM/ID001/out.png"
    link.symlink_to(next((dataset / "train/DCM").rglob("*.png")))
    annotation = next((root / "train/outputs_json").rglob("*.json"))
    annotation.write_text("{")
    server.show(sources.open_paths([root]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert any(str(link) in text.value for text in app.text)
    next(button for button in app.button if button.label == "Measure all").click().run()
    assert any(str(annotation) in text.value for text in app.text)


def test_an_order_by_agreement_is_offered_for_pseudo_labels(dataset: Path, pseudo: Path) -> None:
    server.show(sources.open_paths([pseudo]))
    app = AppTest.from_file(str(APP), default_timeout=120)
    app.query_params["order"] = "agreement"
    app.run()
    assert not app.exception
    orders = {box.key: box for box in app.selectbox}
    assert orders["select Order"].value == "agreement"
    assert "filter 0 left_out" in orders
    server.show(sources.open_paths([dataset]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    orders = {box.key: box for box in app.selectbox}
    assert len(orders["select Order"].options) == 4
    assert "filter 0 left_out" not in orders


def test_damaged_decisions_are_named(dataset: Path, tmp_path: Path) -> None:
    root = shutil.copytree(dataset, tmp_path / "data")
    (root / "decisions.csv").write_text("image,bone,decision\na,Radius,perhaps\n")
    server.show(sources.open_paths([root]))
    app = AppTest.from_file(str(APP), default_timeout=120).run()
    assert "decisions.csv: line 2" in app.error[0].value


def test_the_first_picture_loads_no_more_than_it_needs(dataset: Path) -> None:
    """Their imports take longer than all else before the first picture."""
    script = """
import sys
from streamlit.testing.v1 import AppTest
from carpus.viewer import server, sources
now = server.show(sources.open_paths([sys.argv[1]]))
app = AppTest.from_file(sys.argv[2], default_timeout=120).run()
assert not app.exception and now.workspace.patients
assert now.packets.image(0) and now.packets.labels("data", 0)
print(*(name for name in ("torch", "pandas", "pydicom") if name in sys.modules))
"""
    command = [sys.executable, "-c", script, str(dataset), str(APP)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []
