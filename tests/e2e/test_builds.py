"""What a build gets and does, seen on the real engine."""

import io
import json
import secrets
import tarfile
from itertools import pairwise

import pytest

from tests.e2e.harness import BUSYBOX, until

pytestmark = pytest.mark.engine


def tar_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


def test_a_build_runs_its_commands_in_order_until_one_fails(service):
    build = service.run(commands=["echo one", "cd /tmp", "pwd", "false", "echo never"])
    assert (build["result"], build["reason"], build["exit_code"]) == ("FAILURE", "exit-code", 1)
    log = service.text(build["id"])
    assert log.startswith(b"one\n/tmp\n[sibling] FAILURE: exit code 1 (")
    assert b"never" not in log
    assert set(build["phases"]) >= {"queued", "create", "start", "run"}


def test_a_build_that_succeeds_leaves_its_own_bytes_in_the_log_and_nothing_else(service):
    build = service.run(commands=["printf 'a\\0b\\377'"])
    assert build["result"] == "SUCCESS"
    assert build["exit_code"] == 0
    assert service.text(build["id"]) == b"a\0b\xff"
    service.assert_nothing_left()


def test_argv_runs_a_program_and_never_a_shell_builtin_or_word_of_a_shell(service):
    build = service.run(argv=["/bin/echo", "$HOME", "*", "a  b", "'"])
    assert service.text(build["id"]) == b"$HOME * a  b '\n"
    assert service.run(argv=["exit", "0"])["exit_code"] == 127


def test_the_images_own_programs_come_before_the_toolkits(service):
    build = service.run(image="sibling-test/debian:1", commands=["readlink /proc/$$/exe", "dpkg-deb --version"])
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert service.text(build["id"]).startswith(b"/usr/bin/dash\nDebian ")


@pytest.mark.parametrize(
    ("image", "argv", "expected"),
    [
        ("sibling-test/entrypoint:1", ["/bin/echo", "ran"], b"ran\n"),
        ("sibling-test/user:1", ["id", "-u"], b"1000\n"),
        ("sibling-test/nopasswd:1", ["id", "-u"], b"0\n"),
        ("sibling-test/debian:1", ["cat", "/etc/hostname"], None),
    ],
)
def test_any_image_can_be_built_in(service, image, argv, expected):
    build = service.run(image=image, argv=argv)
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert expected is None or service.text(build["id"]) == expected


def test_commands_run_in_an_image_without_a_shell(service):
    build = service.run(image="sibling-test/static:1", commands=["echo $((6 * 7))", "ls /workspace | wc -l"])
    assert service.text(build["id"]) == b"42\n0\n"


@pytest.mark.parametrize("user", ["4711", "4711:42", "builder", "1000:0"])
def test_any_user_has_a_name_a_home_and_a_workspace_of_its_own(service, user):
    build = service.run(
        user=user,
        commands=["id -un", "touch file $HOME/file", "id -u", "id -g"],
    )
    lines = service.text(build["id"]).split()
    uid, _, gid = user.replace("builder", "1000").partition(":")
    assert build["result"] == "SUCCESS", lines
    assert lines[1] == uid.encode()
    assert not gid or lines[2] == gid.encode()


def test_a_user_that_the_image_does_not_know_is_refused_by_name(service):
    build = service.run(user="nosuchuser", commands=["true"])
    assert build["result"] == "NOT_BUILT"
    assert "nosuchuser" in build["message"]


def test_a_secret_reaches_the_build_and_nobody_else(service):
    secret = "s3cr3t-Zürich-with 'quotes' and $(ticks)"
    build_id = service.post(
        secrets={"TOKEN": secret},
        commands=['printf "%s" "$TOKEN" | wc -c', 'echo "x${TOKEN}y"', "cat", "sleep 1"],
    )
    container = service.container(build_id)
    inspected = json.dumps(container.attrs)
    build = service.wait(build_id)
    log = service.text(build_id)
    assert log.startswith(str(len(secret.encode())).encode() + b"\nx****y\n"), log
    for place in (inspected, json.dumps(build), service.log.read_text()):
        assert "s3cr3t" not in place
    assert b"s3cr3t" not in (service.data / "builds.db").read_bytes()


def test_the_limits_are_those_asked_for(service):
    build_id = service.post(cpus=0.5, memory="64m", pids=50, shm_size="16m", commands=["df -k /dev/shm", "sleep 60"])
    container = service.container(build_id)
    host = container.attrs["HostConfig"]
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 64 * 1024**2, 64 * 1024**2)
    assert (host["PidsLimit"], host["ShmSize"]) == (50, 16 * 1024**2)
    assert host["Privileged"] is False
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in " ".join(host["SecurityOpt"])
    assert not host["Binds"]
    service.client.post(f"/v1/builds/{build_id}/cancel")
    service.wait(build_id)


def test_builds_cannot_reach_each_other(service):
    first = service.post(commands=["hostname -i", "nc -l -p 8000 -e echo reached & sleep 30"])
    address = until(lambda: service.text_now(first).split())[0].decode()
    second = service.run(commands=[f"nc -w 2 {address} 8000 </dev/null && exit 0 || exit 9"])
    assert second["exit_code"] == 9, service.text(second["id"])
    service.client.post(f"/v1/builds/{first}/cancel")


def test_an_uploaded_tree_is_the_workspace_and_artifacts_come_back(service):
    tree = tar_of({"make.sh": b"mkdir -p out/a; date >out/a/d; echo hi >out/b\n"})
    source = service.client.put("/v1/sources", content=tree)
    assert source.status_code == 201, source.text
    build = service.run(
        source={"type": "uploaded", "id": source.json()["id"]},
        commands=["sh ./make.sh", "ln -s /etc/passwd out/link"],
        artifacts=["out/**"],
        user="1000",
    )
    assert build["result"] == "SUCCESS", service.text(build["id"])
    assert [each["path"] for each in build["artifacts"]] == ["out/a/d", "out/b"]
    assert service.client.get(f"/v1/builds/{build['id']}/artifacts/out/b").content == b"hi\n"
    assert service.client.get(f"/v1/builds/{build['id']}/artifacts/out/link").status_code == 404
    service.assert_nothing_left()


def test_artifacts_of_a_failed_build_come_back_too(service):
    build = service.run(commands=["echo report >report.xml", "exit 3"], artifacts=["*.xml"])
    assert build["exit_code"] == 3
    assert [each["path"] for each in build["artifacts"]] == ["report.xml"]


def test_a_source_that_was_never_uploaded_is_refused_at_once(service):
    answer = service.client.post(
        "/v1/builds",
        json={"image": BUSYBOX, "commands": ["true"], "source": {"type": "uploaded", "id": "src-" + "0" * 32}},
    )
    assert answer.status_code == 422
    assert "src-000" in answer.json()["detail"]


def test_an_image_that_is_not_there_and_must_not_be_pulled_is_not_built(service):
    build = service.run(image="registry.invalid/none:1", pull="never", commands=["true"])
    assert (build["result"], build["reason"]) == ("NOT_BUILT", "image")
    assert b"registry.invalid/none:1" in service.text(build["id"])


def test_an_image_that_cannot_be_pulled_is_not_built_and_says_what_the_registry_said(service):
    build = service.run(image="localhost:1/none:1", commands=["true"])
    assert (build["result"], build["reason"]) == ("NOT_BUILT", "image")
    assert "connection refused" in build["message"]
    assert "pull" in build["phases"]


@pytest.mark.parametrize("workdir", ["sub/dir", "/srv", "../workspace/sub"])
def test_the_working_directory_is_where_it_says(service, workdir):
    source = service.client.put("/v1/sources", content=tar_of({"sub/dir/x": b""}))
    build = service.run(
        image="sibling-test/user:1",
        user="root",
        source={"type": "uploaded", "id": source.json()["id"]},
        workdir=workdir,
        argv=["pwd"],
    )
    expected = {"sub/dir": b"/workspace/sub/dir\n", "/srv": b"/srv\n", "../workspace/sub": b"/workspace/sub\n"}
    assert service.text(build["id"]) == expected[workdir]


def test_a_working_directory_that_is_not_there_fails_with_its_name(service):
    build = service.run(workdir="none", argv=["pwd"])
    assert build["exit_code"] == 125
    assert b"/workspace/none is not there" in service.text(build["id"])


def test_a_package_manager_can_install(service):
    """dpkg needs the capabilities that are kept: it changes owners and modes, as root and as other users."""
    build = service.run(
        image="sibling-test/debian:1",
        commands=[
            "mkdir -p p/DEBIAN p/opt && echo hi >p/opt/hi && chown 33:33 p/opt/hi && chmod 4755 p/opt/hi",
            "cd p/DEBIAN",
            "printf 'Package: hi\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: d\\n' >control",
            "printf '#!/bin/sh\\nuseradd -m hi; su hi -s /bin/sh -c id\\n' >postinst && chmod 755 postinst",
            "cd ../..",
            "dpkg-deb --build p hi.deb && dpkg -i hi.deb && stat -c '%u %a' /opt/hi",
        ],
    )
    assert build["result"] == "SUCCESS", service.text(build["id"]).decode()
    assert service.text(build["id"]).endswith(b"33 4755\n")


def test_priorities_and_age_decide_who_is_next(service_with):
    service = service_with(queue__slots=1)
    blocker = service.post(commands=["sleep 2"])
    until(lambda: service.build(blocker)["state"] == "running")
    low, high, later = (service.post(commands=["true"], priority=each) for each in (0, 5, 5))
    order = sorted((service.wait(each) for each in (low, high, later)), key=lambda build: build["started_at"])
    assert [build["id"] for build in order] == [high, later, low]


def test_a_concurrency_key_lets_no_more_run_than_its_limit(service_with):
    service = service_with(queue__slots=4)
    same = [service.post(commands=["sleep 0.5"], concurrency={"key": "deploy", "limit": 1}) for _ in range(3)]
    builds = sorted((service.wait(each) for each in same), key=lambda build: build["started_at"])
    for before, after in pairwise(builds):
        assert before["finished_at"] <= after["started_at"]


def test_the_idempotency_key_makes_one_build_of_two_posts(service):
    body = {"image": BUSYBOX, "commands": ["true"]}
    first, second = (service.client.post("/v1/builds", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    other = service.client.post("/v1/builds", json=body | {"priority": 1}, headers={"Idempotency-Key": "k1"})
    assert other.status_code == 409


@pytest.mark.parametrize(
    "files",
    [
        {"etc/passwd": tarfile.FIFOTYPE},
        {"etc/group": tarfile.FIFOTYPE},
        {"pipe": tarfile.FIFOTYPE, "etc/passwd": "/pipe"},
    ],
    ids=["passwd", "group", "link"],
)
def test_an_image_whose_users_the_engine_would_wait_for_is_not_started(service, files):
    """The engine would keep the container locked, and remove no image of anybody."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, kind in files.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (kind, "") if isinstance(kind, bytes) else (tarfile.SYMTYPE, kind)
            archive.addfile(member)
    image = f"sibling-test/piped:{secrets.token_hex(8)}"
    service.docker.api.import_image_from_data(data.getvalue(), *image.split(":"))
    try:
        build = service.run(image=image, user="nobody", commands=["true"])
        assert (build["result"], build["reason"]) == ("NOT_BUILT", "image")
        assert "no container of it can be started" in build["message"]
        service.assert_nothing_left()
    finally:
        service.docker.images.remove(image)
