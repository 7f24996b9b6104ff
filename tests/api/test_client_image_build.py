"""`sibling image build`, `push` and `ls` from the command line to the exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile

import pytest

from tests.api import client_process
from tests.api.image_steps import DIGEST, ID, IMAGE, PUSHED, built, posted, run_image
from tests.fakes.build_server import Answer, BuildServer, FakeBuild, Say, UntilCancelled


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\n")
    return str(folder)


def tar_of(*members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


TAR = tar_of(("bin/tool", b"tool"), ("etc/empty", b""))


def test_every_option_reaches_the_request(tmp_path, folder):
    (tmp_path / "npmrc").write_bytes(b"token=1\n")
    options = (
        "-t", "r.example/app:1", "--tag", "app", "--push", "--build-arg", "A=1=2", "--build-arg", "OWN",
        "--build-arg", "UNSET_HERE", "--build-arg", "EMPTY=", "--target", "stage",
        "--secret", f"id=npm,src={tmp_path}/npmrc",
        "--secret", "id=env,env=OWN", "--secret", "id=OWN", "--secret", f"type=file,id=f,source={tmp_path}/npmrc",
        "--label", "team=a=b", "--no-source-labels", "--platform", "linux/amd64,linux/arm64",
        "--platform", "linux/arm/v7",
        "--no-cache", "--pull", "--cache-from", "r.example/c", "--cache-from", "type=registry,ref=r.example/d",
        "--cache-to", "type=inline", "--network", "none", "--timeout", "10m", "--cpus", "1.5", "--memory", "2g",
    )  # fmt: skip
    _, server = run_image("build", *options, folder, env=client_process.environment(OWN="mine"))
    request = posted(server)
    assert request.pop("context")["type"] == "uploaded"
    assert request == {
        "tags": ["r.example/app:1", "app"],
        "push": True,
        "build_args": {"A": "1=2", "OWN": "mine", "EMPTY": ""},
        "target": "stage",
        "secrets": {"npm": "token=1\n", "env": "mine", "OWN": "mine", "f": "token=1\n"},
        "image_labels": {"team": "a=b"},
        "platforms": ["linux/amd64", "linux/arm64", "linux/arm/v7"],
        "no_cache": True,
        "pull": True,
        "cache_from": ["r.example/c", "type=registry,ref=r.example/d"],
        "cache_to": ["type=inline"],
        "network": "none",
        "timeout": "10m",
        "cpus": 1.5,
        "memory": "2g",
        "dockerfile": "Dockerfile",
        "progress": "plain",
    }


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--push",), "--push needs a name"),
        (("--secret", "hunter2"), "A --secret is not understood"),
        (("--secret", "id=x,value=hunter2"), "A --secret is not understood"),
        (("--secret", "id=x,src=/none"), "The secret x cannot be read from /none: No such file"),
        (("--secret", "id=x,env=UNSET_HERE"), "The secret x is to come from the variable UNSET_HERE, which is not set"),
        (("--secret", "id=UNSET_HERE"), "the variable UNSET_HERE, which is not set"),
        (("--secret", "id=x,src=/bin/sh"), "The secret x from /bin/sh is not UTF-8 text; encode it"),
        (("-o", "type=registry"), "--push here"),
        (("-o", "type=oci,dest=x"), "is not understood"),
        (("-o", "type=local"), "is not understood"),
        (("-o", "x", "-t", "a", "--push"), "nothing to push"),
        (("-o", "-", "-q"), "not both"),
        (("-q", "--json"), "not allowed with"),
        (("--iidfile", "/none/id"), "there is no folder /none"),
        (("--network", "host"), "invalid choice"),
        (("--progress", "fancy"), "invalid choice"),
    ],
)
def test_a_wrong_command_line_is_told_with_125_and_sends_nothing(folder, options, sentence):
    ended, server = run_image("build", *options, folder)
    assert ended.returncode == 125
    assert sentence in ended.stderr.decode()
    assert b"hunter2" not in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert server.asked == []


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (built(), 0),
        (FakeBuild(result="FAILURE", exit_code=1, reason="exit-code", message="RUN make failed."), 1),
        (FakeBuild(result="FAILURE", exit_code=None, reason="engine"), 1),
        (FakeBuild(result="FAILURE", exit_code=None, reason="timeout"), 124),
        (FakeBuild(result="ABORTED", exit_code=None, reason="timeout"), 124),
        (FakeBuild(result="NOT_BUILT", exit_code=None, reason="policy"), 125),
        (FakeBuild(result="ABORTED", exit_code=None, reason="cancelled"), 130),
    ],
    ids=lambda value: f"{value.result}-{value.reason}" if isinstance(value, FakeBuild) else None,
)
def test_the_exit_code_tells_how_it_ended(folder, build, code):
    ended, _ = run_image("build", folder, build=build)
    assert ended.returncode == code
    assert ended.stdout == b""


def test_the_log_and_a_summary_go_to_standard_error_and_nothing_to_standard_output(folder):
    log = b"#5 [2/2] RUN make\n#5 DONE 3.0s\n"
    ended, server = run_image("build", "-t", "x", folder, build=built(Say(log), image=PUSHED))
    build_id = next(iter(server.builds))
    assert ended.stdout == b""
    assert ended.stderr.decode() == log.decode() + (
        f"[sibling] Image {ID} (12.3 MB): docker.io/library/app:1\n"
        f"[sibling] Pushed registry.example/app:1@{DIGEST}\n"
        "[sibling] 1 of 2 steps came from the cache.\n"
        f"[sibling] SUCCESS in 3.2 s (queued 0.01, source 0.1, run 3.0), build {build_id}\n"
    )


@pytest.mark.parametrize(("image", "printed"), [(IMAGE, ID), (PUSHED, DIGEST)])
def test_quiet_prints_the_digest_or_the_id_alone(folder, image, printed):
    ended, _ = run_image("build", "-q", folder, build=built(Say(b"log\n"), image=image))
    assert (ended.stdout.decode(), ended.stderr) == (f"{printed}\n", b"")


def test_quiet_still_says_what_went_wrong(folder):
    build = FakeBuild((Say(b"log\n"),), result="FAILURE", exit_code=None, reason="engine", message="No space left.")
    ended, _ = run_image("build", "-q", folder, build=build)
    assert (ended.stdout, ended.returncode) == (b"", 1)
    assert b"No space left." in ended.stderr


def test_json_prints_the_build(folder):
    ended, _ = run_image("build", "--json", folder, build=built(Say(b"log\n")))
    assert json.loads(ended.stdout)["image_build"] == IMAGE
    assert ended.stderr.startswith(b"log\n")


def test_json_progress_is_buildkits_messages_as_they_come(folder):
    log = b'{"vertexes":[]}\n{"logs":[]}\n'
    ended, server = run_image("build", "--progress", "json", folder, build=built(Say(log)))
    assert posted(server)["progress"] == "json"
    assert ended.stderr.startswith(log)


@pytest.mark.parametrize("mode", ["auto", "tty", "plain"])
def test_without_a_terminal_progress_is_plain(folder, mode):
    _, server = run_image("build", "--progress", mode, folder)
    assert posted(server)["progress"] == "plain"


def test_id_and_metadata_are_written_with_dockers_names(tmp_path, folder):
    files = ("--iidfile", str(tmp_path / "id"), "--metadata-file", str(tmp_path / "metadata"))
    _, server = run_image("build", *files, folder, build=built(image=PUSHED))
    assert (tmp_path / "id").read_text() == ID
    assert json.loads((tmp_path / "metadata").read_text()) == {
        "containerimage.digest": DIGEST,
        "containerimage.config.digest": ID,
        "image.name": "docker.io/library/app:1",
        "sibling.build": next(iter(server.builds)),
        "sibling.pushed": PUSHED["pushed"],
        "sibling.bases": PUSHED["bases"],
    }


def test_a_digest_that_is_not_known_is_left_out(tmp_path, folder):
    run_image("build", "--metadata-file", str(tmp_path / "metadata"), folder)
    assert "containerimage.digest" not in json.loads((tmp_path / "metadata").read_text())


def test_files_of_an_earlier_build_do_not_outlive_a_failure(tmp_path, folder):
    (tmp_path / "id").write_text("old")
    (tmp_path / "metadata").write_text("old")
    files = ("--iidfile", str(tmp_path / "id"), "--metadata-file", str(tmp_path / "metadata"))
    run_image("build", *files, folder, build=FakeBuild(result="FAILURE", exit_code=None, reason="exit-code"))
    assert {path.name for path in tmp_path.iterdir()} == {"context"}


def test_a_pipe_in_the_place_of_a_file_is_written_to_and_stays_one(tmp_path, folder):
    os.mkfifo(tmp_path / "id")
    reader = os.open(tmp_path / "id", os.O_RDWR)
    run_image("build", "--iidfile", str(tmp_path / "id"), folder)
    assert os.read(reader, 1000).decode() == ID
    os.close(reader)
    assert (tmp_path / "id").is_fifo()


def test_a_link_in_the_place_of_a_file_is_followed(tmp_path, folder):
    (tmp_path / "link").symlink_to("real")
    run_image("build", "--iidfile", str(tmp_path / "link"), folder)
    assert (tmp_path / "real").read_text() == ID
    assert (tmp_path / "link").is_symlink()


def tarred(data=TAR):
    nothing = {**IMAGE, "id": None, "size": None, "tags": []}
    return built(image=nothing, artifacts={"image.tar": data})


@pytest.mark.parametrize("spec", ["type=tar,dest=out.tar", "dest=out.tar,type=tar"])
def test_the_file_system_comes_as_a_tar(tmp_path, folder, spec):
    _, server = run_image("build", "-o", spec, folder, build=tarred(), cwd=tmp_path)
    assert posted(server)["output"] == "tar"
    assert (tmp_path / "out.tar").read_bytes() == TAR


@pytest.mark.parametrize("spec", ["-", "type=tar", "type=tar,dest=-"])
def test_the_file_system_comes_on_standard_output_and_nothing_else_does(folder, spec):
    ended, _ = run_image("build", "-o", spec, folder, build=tarred(TAR * 20))
    assert ended.stdout == TAR * 20
    assert ended.returncode == 0


@pytest.mark.parametrize("spec", ["out", "type=local,dest=out"])
def test_the_file_system_comes_into_a_folder(tmp_path, folder, spec):
    run_image("build", "-o", spec, folder, build=tarred(), cwd=tmp_path)
    files = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(files) == {"bin/tool", "etc/empty"}
    assert files["bin/tool"].read_bytes() == b"tool"


def test_a_tar_that_does_not_come_is_no_success(tmp_path, folder):
    ended, _ = run_image("build", "-o", "type=tar,dest=out.tar", folder, build=built(), cwd=tmp_path)
    assert ended.returncode == 125
    assert b"left no image.tar" in ended.stderr
    assert not (tmp_path / "out.tar").exists()


def test_a_signal_cancels_the_build(folder):
    build = built(Say(b"begun\n"), UntilCancelled())
    with BuildServer(build) as server, client_process.start("image", "build", "--url", server.url, folder) as process:
        assert process.stderr.readline() == b"begun\n"
        process.send_signal(signal.SIGINT)
        server.wait_for("POST", "/cancel")
        assert process.wait(30) == 130
        assert b"ABORTED" in process.stderr.read()


def test_a_lost_answer_makes_no_second_build(folder):
    with BuildServer(built(), built()) as server:
        server.lost["POST /v1/images/builds"] = 1
        ended = client_process.run("image", "build", "--url", server.url, folder)
        keys = {asked.headers["Idempotency-Key"] for asked in server.wait_for("POST", "/images/builds", times=2)}
    assert (ended.returncode, len(keys), len(server.builds)) == (0, 1, 1)


def test_a_refusal_by_policy_is_told(folder):
    with BuildServer(built()) as server:
        detail = {"status": 403, "detail": "Nobody may push to r.example/a.", "rule": "registries.r.push"}
        server.answers["POST /v1/images/builds"] = [Answer(403, detail)]
        ended = client_process.run("image", "build", "--url", server.url, folder)
    assert (ended.returncode, ended.stderr) == (
        125, b"[sibling] Nobody may push to r.example/a (rule registries.r.push).\n",
    )  # fmt: skip


def test_push_posts_the_names_and_prints_the_digests(tmp_path):
    options = ("-q", "--metadata-file", str(tmp_path / "metadata"), "r.example/app:1", "r.example/app:2")
    both = [{"reference": f"r.example/app:{tag}", "digest": DIGEST} for tag in (1, 2)]
    ended, server = run_image("push", *options, build=built(Say(b"log\n"), image={**PUSHED, "pushed": both}))
    assert posted(server, "/v1/images/pushes") == {"images": ["r.example/app:1", "r.example/app:2"]}
    assert (ended.stdout.decode(), ended.stderr, ended.returncode) == (f"{DIGEST}\n", b"", 0)
    assert json.loads((tmp_path / "metadata").read_text())["sibling.pushed"] == both


def test_a_push_that_fails_is_1_and_says_why():
    build = FakeBuild((Say(b"log\n"),), result="FAILURE", exit_code=None, reason="engine", message="r.example is down.")
    ended, _ = run_image("push", "r.example/app:1", build=build)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert ended.stderr.startswith(b"log\n")
    assert b"r.example is down." in ended.stderr


def listed(*options):
    image = {**PUSHED, "build": "01b", "created_at": "2020-03-01T10:00:00Z", "created_by": "job:team/app"}
    with BuildServer() as server:
        pages = [
            {"images": [image] * 100, "next": "c"},
            {"images": [{**image, "id": None, "size": None, "tags": []}], "next": None},
        ]
        server.answers["GET /v1/images"] = [Answer(200, page) for page in pages]
        ended = client_process.run("image", "ls", "--url", server.url, *options)
    return ended, server.wait_for("GET", "/v1/images")


def test_ls_shows_images_page_by_page_as_a_table():
    ended, asked = listed("--limit", "200", "--tag", "app:1")
    lines = ended.stdout.decode().splitlines()
    assert lines[0].split() == ["IMAGE", "SIZE", "AGE", "BUILD", "BY", "NAMES"]
    assert lines[1].startswith("111111111111  12.3 MB  ")
    assert lines[1].endswith(" d  01b    job:team/app  docker.io/library/app:1")
    assert lines[-1].split()[:2] == ["-", "-"]
    assert len(lines) == 102
    assert [each.query for each in asked] == [
        {"tag": ["app:1"], "limit": ["100"]},
        {"tag": ["app:1"], "limit": ["100"], "cursor": ["c"]},
    ]


def test_ls_as_json_is_what_the_service_said():
    ended, _ = listed("--json", "--limit", "1")
    assert [image["pushed"] for image in json.loads(ended.stdout)] == [PUSHED["pushed"]]


@pytest.mark.parametrize("arguments", [(), ("nosuch",), ("ls", "--nosuch")])
def test_a_wrong_command_is_2(arguments):
    ended = client_process.run("image", *arguments)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"sibling" in ended.stderr


@pytest.mark.parametrize("command", ["build", "push", "ls"])
def test_every_command_has_help_with_an_example(command):
    ended = client_process.run("image", command, "--help")
    assert ended.returncode == 0
    assert f"\n  sibling image {command}".encode() in ended.stdout


def test_ps_and_show_name_the_images_of_builds_without_a_container():
    with BuildServer() as server:
        build = server.add(built())
        build.request = {"tags": ["app:1", "app:2"], "image": None}
        build.finished.set()
        ps = client_process.run("ps", "--all", "--url", server.url)
        show = client_process.run("show", build.id, "--url", server.url)
    assert b"app:1, app:2" in ps.stdout
    assert b"app:1, app:2" in show.stdout
