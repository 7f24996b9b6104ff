"""`user` is who Docker would take it for."""

import pytest

from agent.users import User, find, is_root, with_entry

PASSWD = "root:x:0:0:root:/root:/bin/sh\nbuilder:x:1000:100:b:/home/b:/bin/sh\nbroken\nodd:x:x:y\n"
GROUP = "root:x:0:\nwheel:x:10:root\nusers:x:100:\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("builder", User(1000, 100, known=True)),
        ("1000", User(1000, 100, known=True)),
        ("builder:wheel", User(1000, 10, known=True)),
        ("builder:55", User(1000, 55, known=True)),
        ("4711", User(4711, 0, known=False)),
        ("4711:12", User(4711, 12, known=False)),
        ("root", User(0, 0, known=True)),
        ("nobody", None),
        ("builder:nogroup", None),
        ("odd", None),
    ],
)
def test_a_user_is_found_as_docker_finds_it(user, expected):
    assert find(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("user", "root"), [("", True), ("root", True), ("0:0", True), ("0", True), ("0:100", False), ("1000", False)]
)
def test_root_needs_no_look_into_the_image(user, root):
    assert is_root(user) is root


@pytest.mark.parametrize("passwd", ["", PASSWD, PASSWD.rstrip("\n")])
def test_an_added_entry_is_found_and_the_others_stay(passwd):
    after = with_entry(passwd, User(4711, 12, known=False), "/tmp/home")
    assert find("4711", after, "") == User(4711, 12, known=True)
    assert after.startswith(passwd)
    assert all(line.count(":") == 6 for line in after.splitlines() if line.startswith("build:"))
