"""Files are written as a whole or not at all, by however many writers."""

import pytest

from stages.common.files import atomic_write, write_json


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "result.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
        assert not path.exists()
    assert path.read_text() in {"first", "second"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"accuracy": 0.9})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"accuracy": float("nan")})
    with pytest.raises(TypeError), atomic_write(path) as temporary:
        temporary.write_text(None)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
