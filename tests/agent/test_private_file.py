"""A private file is made once, whole and for the service alone."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

from agent.files.private_file import keep_private, write_private


def test_it_is_made_once_and_only_the_owner_may_read_it(tmp_path):
    path = tmp_path / "key"
    numbers = count()
    made = [keep_private(path, lambda: f"key {next(numbers)}") for _ in range(3)]
    assert made == [b"key 0"] * 3
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_many_makers_at_once_agree(tmp_path):
    path, numbers = tmp_path / "key", count()
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: keep_private(path, lambda: f"{next(numbers)}"), range(50)))
    assert len(set(made)) == 1
    assert path.read_bytes() == made[0]
    assert list(tmp_path.iterdir()) == [path]


def test_writing_replaces_all_of_it(tmp_path):
    path = tmp_path / "file"
    write_private(path, "long content")
    write_private(path, "short")
    assert path.read_text() == "short"
    assert path.stat().st_mode & 0o777 == 0o600
