"""Files are written whole or not at all, JSON means one thing, names stay in their folder."""

import json
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpus.errors import DataError
from carpus.formats import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fail_halfway(path):
    with files.atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def error_of(function, *arguments):
    try:
        function(*arguments)
    except DataError as error:
        return str(error)
    return None


def test_a_written_file_has_its_text_and_the_usual_permissions(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_text(path, "Straße\n")
    assert path.read_bytes() == "Straße\n".encode()
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert names(path.parent) == ["a.txt"]


def test_a_block_that_fails_leaves_the_earlier_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "earlier")
    with pytest.raises(ZeroDivisionError):
        fail_halfway(path)
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_earlier_file_and_names_the_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"earlier": True})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.json'$"):
            files.write_json(path, ["x"] * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files.read_json(path) == {"earlier": True}
    assert names(tmp_path) == ["a.json"]


def test_a_folder_that_cannot_be_made_is_an_error_naming_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        files.write_text(tmp_path / "file" / "a.txt", "")


def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, [0] * 50_000)
    program = (
        "import sys; from carpus.formats import files\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    files.write_json(sys.argv[1], [number] * 50_000)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        before = path.stat().st_ino
        while path.stat().st_ino == before:  # it has begun
            time.sleep(0.01)
        for _ in range(20):
            content = files.read_json(path)
            assert len(content) == 50_000
            assert len(set(content)) == 1
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    content = files.read_json(path)
    assert len(content) == 50_000
    assert len(set(content)) == 1


def test_a_long_name_can_be_written(tmp_path):
    path = tmp_path / ("n" * 250 + ".txt")
    files.write_text(path, "x")
    assert path.read_text() == "x"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    )
)
@settings(max_examples=50, deadline=None)
def test_json_survives_a_round_trip(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("json") / "a.json"
    files.write_json(path, content)
    assert files.read_json(path) == content


def test_json_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert files.read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "line 1, column 1"),
        (b'{"a": 1, "b": 2, "a": 3}', "key 'a' appears twice"),
        (b'{"a": {"b": 1, "b": 1}}', "key 'b' appears twice"),
        (b"[NaN]", "NaN is not a number"),
        (b"[-Infinity]", "-Infinity is not a number"),
        (b"[1e999]", "1e999 is not a number"),
        (b"[" + b"9" * 5000 + b"]", "digits"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16"),
        (b"[1, 2", "not valid JSON"),
        (b"[1] [2]", "not valid JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'["\\ud800"]', "surrogate"),
    ],
)
def test_json_of_doubtful_meaning_is_refused(tmp_path, content, says):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as error:
        files.read_json(path)
    assert str(error.value).startswith(str(path))


def test_json_300_levels_deep_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 300 + "]" * 300)
    assert files.read_json(path)[0][0] != []


def test_many_keys_with_one_twice_are_refused_at_once(tmp_path):
    path = tmp_path / "a.json"
    keys = [*range(200_000), 199_999]
    path.write_text("{" + ", ".join(f'"{key}": 0' for key in keys) + "}")
    start = time.perf_counter()
    with pytest.raises(DataError, match="199999"):
        files.read_json(path)
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("name", ["missing.json", ".", "a\0b"])
def test_json_that_is_no_file_is_an_error(tmp_path, name):
    with pytest.raises(DataError):
        files.read_json(f"{tmp_path}/{name}")


@given(st.binary(max_size=200) | st.text('{}[]",:0123456789.eE+-truefalsnN \\udD\n', max_size=60).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_random_bytes_are_json_or_an_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(content)
    message = error_of(files.read_json, path)
    if message is None:
        json.dumps(files.read_json(path), allow_nan=False, ensure_ascii=False).encode()
    else:
        assert str(path) in message


@pytest.mark.parametrize("name", ["a.png", "ID001/a.png", "ID001\\a.png", "./a.png", "a//b", "ID 1/ü.png", "comb.png"])
def test_names_below_the_folder_are_allowed(tmp_path, name):
    path = files.inside(tmp_path, name, "list.csv: row 2")
    assert path.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "ID001/../../a.png",
        "..\\a.png",
        "..",
        "/etc/passwd",
        "//server/share",
        "\\\\server\\share",
        "C:\\a.png",
        "c:a.png",
        "",
        ".",
        "a\0.png",
        "a\nb.png",
        "a\x85b.png",
        "\ud800.png",
        "NUL",
        "con.png",
        "ID001/lpt1.json",
        "a.png ",
        "ID001./a.png",
        "a.png:stream",
        "a?.png",
        "n" * 256,
    ],
)
def test_names_that_leave_the_folder_or_that_no_system_holds_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"^list\.csv: row 2: "):
        files.inside(tmp_path, name, "list.csv: row 2")


def test_links_are_followed_before_a_name_is_allowed(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    data.mkdir()
    outside.mkdir()
    (data / "out").symlink_to(outside)
    (data / "in").symlink_to(data)
    (data / "loop").symlink_to("loop")
    assert files.inside(data, "in/a.png", "x") == data / "in" / "a.png"
    for name in ("out/a.png", "loop/a.png"):
        with pytest.raises(DataError, match="link"):
            files.inside(data, name, "x")


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_path_inside_or_an_error(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp()
    message = error_of(files.inside, folder, name, "x")
    if message is None:
        assert files.inside(folder, name, "x").resolve().is_relative_to(folder.resolve())
    else:
        assert message.startswith("x: ")
