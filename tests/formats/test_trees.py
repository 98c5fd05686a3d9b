import contextlib

import pytest

from carpus.errors import DataError
from carpus.formats import trees


def put(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_files_come_sorted_folder_by_folder_without_hidden_ones(tmp_path):
    put(tmp_path, "b/1.json", "a/2.JSON", "a/10.json", "a.b/3.json", "a/x.png", ".git/4.json", "a/._5.json")
    put(tmp_path, "__MACOSX/a/6.json")
    assert [stem for _, stem in trees.json_files(tmp_path)] == ["a/10", "a/2", "a.b/3", "b/1"]


def test_one_file_is_itself(tmp_path):
    put(tmp_path, "image1.v2.json")
    assert trees.json_files(tmp_path / "image1.v2.json") == [(tmp_path / "image1.v2.json", "image1.v2")]


def test_45_a_link_out_of_the_folder_is_refused_and_one_inside_is_not(tmp_path):
    put(tmp_path, "secret.json", "data/a.json")
    (tmp_path / "data/b.json").symlink_to(tmp_path / "data/a.json")
    assert len(trees.json_files(tmp_path / "data")) == 2
    (tmp_path / "data/c.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(DataError, match=r"'c.json' is a link out of"):
        trees.json_files(tmp_path / "data")


def test_45_folders_behind_links_are_not_entered(tmp_path):
    put(tmp_path, "elsewhere/secret.json", "data/a.json")
    (tmp_path / "data/more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [stem for _, stem in trees.json_files(tmp_path / "data")] == ["a"]


def test_nothing_to_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no JSON files"):
        trees.json_files(tmp_path)
    with pytest.raises(DataError, match="there is no such file or folder"):
        trees.json_files(tmp_path / "none")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    with trees.replacing(tmp_path / "new/out") as temporary:
        put(temporary, "a/b.json")
        assert not (tmp_path / "new/out").exists()
    assert (tmp_path / "new/out/a/b.json").exists()
    with pytest.raises(ZeroDivisionError), trees.replacing(tmp_path / "new/other") as temporary:
        put(temporary, "a/b.json", f"{1 // 0}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    (tmp_path / "out").mkdir()
    with trees.replacing(tmp_path / "out") as temporary:
        put(temporary, "a.json")
    with pytest.raises(DataError, match="is there already"), trees.replacing(tmp_path / "out"):
        pass
    assert (tmp_path / "out/a.json").exists()


def made_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_what_was_put_aside_comes_back_or_goes(tmp_path):
    names = ("seal", "folder", "never there")
    put(tmp_path, "seal", "folder/a", "mine")
    before = made_of(tmp_path)
    with contextlib.suppress(ZeroDivisionError), trees.aside(tmp_path, names):
        assert made_of(tmp_path).keys() == {"mine", ".earlier/seal", ".earlier/folder/a"}
        put(tmp_path, "folder/b", "never there")
        raise ZeroDivisionError
    assert made_of(tmp_path) == before
    with trees.aside(tmp_path, names):
        put(tmp_path, "folder/b", "seal")
    assert made_of(tmp_path).keys() == {"mine", "folder/b", "seal"}


@pytest.mark.parametrize("files", range(4))
def test_a_killed_process_loses_nothing_that_was_put_aside(tmp_path, files):
    """Killed after some files were moved aside, or (3) while the new ones were being made."""
    names = ("seal", "one", "two")
    put(tmp_path, *names)
    before = made_of(tmp_path)
    waiting = tmp_path / (".earlier" if files == 3 else ".earlier.part")
    waiting.mkdir()
    for name in names[:files]:
        (tmp_path / name).replace(waiting / name)
    if files == 3:
        (tmp_path / "one").write_text("new")
    with contextlib.suppress(ZeroDivisionError), trees.aside(tmp_path, names):
        assert made_of(tmp_path / ".earlier") == before
        raise ZeroDivisionError
    assert made_of(tmp_path) == before


def test_what_cannot_be_written_is_told_by_the_name_of_the_target(tmp_path):
    with pytest.raises(OSError, match=r"/out'$"), trees.replacing(tmp_path / "out") as temporary:
        (temporary / "missing/a.txt").write_text("")
    with pytest.raises(OSError, match=r"other\.txt'$"), trees.replacing(tmp_path / "out"):
        (tmp_path / "other.txt").read_text()
    assert not list(tmp_path.iterdir())
