import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from carpus.errors import DataError
from carpus.pseudo import decisions
from carpus.pseudo.decisions import Decision

IMAGE = "ID040/image1"


def test_reading_gives_what_was_written(tmp_path):
    written = {
        (IMAGE, "Lunate"): Decision("accept", "kim", "2025-03-01T09:30:00+00:00"),
        ("ID002/=image", "Radius"): Decision("reject", '+lee, "the second"'),
        (IMAGE, "Capitate"): Decision("ignore"),
    }
    decisions.write(tmp_path, written)
    assert decisions.read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [decisions.FILE]


def test_a_folder_without_decisions_has_none(tmp_path):
    assert decisions.read(tmp_path) == {}


def test_a_decision_is_replaced_taken_back_and_undone(tmp_path):
    assert decisions.decide(tmp_path, IMAGE, "Lunate", "accept", "kim") is None
    assert decisions.decide(tmp_path, IMAGE, "Radius", "ignore") is None
    before = decisions.decide(tmp_path, IMAGE, "Lunate", "reject")
    assert before is not None
    assert (before.verdict, before.by) == ("accept", "kim")
    assert before.at
    assert decisions.read(tmp_path)[IMAGE, "Lunate"].verdict == "reject"
    decisions.decide(tmp_path, IMAGE, "Lunate", None)
    assert list(decisions.read(tmp_path)) == [(IMAGE, "Radius")]


def test_a_table_of_a_spreadsheet_is_read(tmp_path):
    text = "bone;decision;image\r\nLunate;accept;ID040/image1\r\n"
    (tmp_path / decisions.FILE).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert decisions.read(tmp_path) == {(IMAGE, "Lunate"): Decision("accept")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,bone\n", "line 1: expected the columns image, bone, decision"),
        ("image,bone,decision\na,Lunate,accepted\n", "line 2: decision: expected accept, reject or ignore"),
        ("image,bone,decision\n,Lunate,accept\n", "line 2: image: is empty"),
        ("image,bone,decision\na,b,accept\na,b,ignore\n", "line 3: a second decision on b of a"),
        ("image,bone,decision\na,b\n", "line 2: expected 3 cells, has 2"),
        ("", "expected the columns"),
    ],
)
def test_a_damaged_table_is_named_with_its_line(tmp_path, text, message):
    (tmp_path / decisions.FILE).write_text(text)
    with pytest.raises(DataError, match=message):
        decisions.read(tmp_path)


def test_several_who_decide_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: decisions.decide(tmp_path, f"ID{n:03}/a", "Lunate", "accept"), range(40)))
    assert len(decisions.read(tmp_path)) == 40


def test_deciding_loads_no_network():
    code = "import sys, carpus.pseudo.decisions; sys.exit('torch' in sys.modules or 'numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
