"""Images built from inside of containers and over HTTP, by the engine's own BuildKit."""

import json
import re
import secrets

import pytest

from tests.e2e.harness import BUSYBOX, until
from tests.e2e.test_builds import tar_of
from tests.fakes.git_server import Repository, git_server

pytestmark = pytest.mark.engine
DOCKERFILE = f"FROM {BUSYBOX}\nCOPY hello /hello\nRUN cat /hello >/seen\n"


def unique(text="true"):
    """A Dockerfile whose steps no cache has."""
    return f"FROM {BUSYBOX}\nRUN echo {secrets.token_hex(8)} >/unique; {text}\n"


@pytest.fixture
def upload(service):
    def put(files):
        answer = service.client.put("/v1/sources", content=tar_of(files))
        assert answer.status_code == 201, answer.text
        return {"type": "uploaded", "id": answer.json()["id"]}

    return put


class Images:
    def __init__(self, service):
        self.service = service

    def post(self, **request):
        return self.service.client.post("/v1/images/builds", json=request)

    def build(self, **request):
        answer = self.post(**request)
        assert answer.status_code == 201, answer.text
        return self.service.wait(answer.json()["id"])

    def log(self, build):
        return self.service.text(build["id"]).decode()

    def steps(self, build, name):
        return [step for step in build["image_build"]["steps"] if name in step["name"]]


@pytest.fixture
def images(service):
    return Images(service)


class TestOverHttp:
    def test_an_image_is_built_and_recorded(self, service, images, upload):
        build = images.build(context=upload({"Dockerfile": DOCKERFILE.encode(), "hello": b"hello"}), tags=["app:1"])
        assert build["result"] == "SUCCESS", images.log(build)
        assert (build["kind"], build["image"]) == ("image-build", None)
        made = build["image_build"]
        assert made["tags"] == ["docker.io/library/app:1"]
        assert made["bases"] == [{"reference": f"docker.io/{BUSYBOX}", "digest": None}]
        assert [step["name"].split("]")[1] for step in images.steps(build, "/3]")] == [
            f" FROM docker.io/{BUSYBOX}",
            " COPY hello /hello",
            " RUN cat /hello >/seen",
        ]
        assert service.docker.images.get(service.private_name(build["id"])).id == made["id"]
        assert made["size"] > 1_000_000
        assert "#1 [internal] load build definition from Dockerfile\n" in images.log(build)

    def test_the_hosts_own_tags_are_never_moved(self, service, images):
        before = service.docker.images.get(BUSYBOX).id
        build = images.build(dockerfile_text=unique(), tags=[BUSYBOX])
        assert build["result"] == "SUCCESS", images.log(build)
        assert service.docker.images.get(BUSYBOX).id == before

    def test_an_image_can_be_run_and_built_upon_by_its_name(self, service, images):
        name = f"base-{secrets.token_hex(4)}"
        assert images.build(dockerfile_text=unique("echo mine >/mine"), tags=[f"{name}:1"])["result"] == "SUCCESS"
        run = service.run(image=f"{name}:1", commands=["cat /mine"])
        assert (run["result"], service.text(run["id"])) == ("SUCCESS", b"mine\n")
        upon = images.build(dockerfile_text=f"FROM {name}:1\nRUN cat /mine\n")
        assert upon["result"] == "SUCCESS", images.log(upon)
        assert " mine\n" in images.log(upon)

    def test_a_step_that_fails_is_told_with_its_output(self, images):
        build = images.build(dockerfile_text=unique("echo about to fail; exit 7"))
        assert (build["result"], build["reason"], build["exit_code"]) == ("FAILURE", "step", 1)
        assert "exit code: 7" in build["message"]
        assert " about to fail\n" in images.log(build)

    def test_a_dockerfile_that_is_none_is_told(self, images):
        build = images.build(dockerfile_text="FROMM x\n")
        assert (build["result"], build["reason"]) == ("FAILURE", "step")
        assert "unknown instruction" in build["message"]

    def test_the_second_time_is_cached(self, images, upload):
        context = upload({"Dockerfile": DOCKERFILE.encode(), "hello": secrets.token_bytes(8)})
        first = images.build(context=context)
        second = images.build(context=context)
        assert [step["cached"] for step in images.steps(first, "RUN")] == [False]
        assert [step["cached"] for step in images.steps(second, "RUN")] == [True]

    def test_options_reach_the_builder(self, service, images, upload):
        text = (
            f"FROM {BUSYBOX} AS first\nARG WORD\n"
            "RUN --mount=type=secret,id=key echo $WORD $(wc -c </run/secrets/key) >/f\n"
            f"FROM {BUSYBOX} AS second\nRUN false\n"
        )
        build = images.build(
            context=upload({"sub/My.Dockerfile": text.encode()}),
            context_dir="sub",
            dockerfile="My.Dockerfile",
            build_args={"WORD": "a $b 'c'"},
            target="first",
            secrets={"key": "12345"},
            image_labels={"org.opencontainers.image.revision": "abc, def=1"},
            tags=["options:1"],
        )
        assert build["result"] == "SUCCESS", images.log(build)
        image = service.docker.images.get(service.private_name(build["id"]))
        assert image.labels["org.opencontainers.image.revision"] == "abc, def=1"
        run = service.run(image="options:1", commands=["cat /f"])
        assert service.text(run["id"]) == b"a $b 'c' 5\n"

    def test_a_git_repository_is_a_context(self, images, tmp_path):
        repository = Repository(tmp_path / "repo.git")
        repository.commit_files(Dockerfile=DOCKERFILE, hello="from git")
        with git_server(tmp_path) as server:
            server.login = ("ci", "the password")
            source = {"type": "git", "url": f"{server.url}/repo.git", "username": "ci", "password": "the password"}
            build = images.build(context=source, tags=["from-git:1"])
        assert build["result"] == "SUCCESS", images.log(build)
        run = images.service.run(image="from-git:1", commands=["cat /seen; ls -a /"])
        assert images.service.text(run["id"]).startswith(b"from git")
        assert "the password" not in images.log(build) + str(build)

    def test_a_repository_in_the_context_runs_nothing_of_its_own(self, service, images, upload, tmp_path):
        """A git that looks at it would fetch the missing commit by the command that its configuration names."""
        mark = tmp_path / "pwned"
        files = {
            "app/Dockerfile": f"FROM {BUSYBOX}\n",
            "app/.git/HEAD": "ref: refs/heads/main\n",
            "app/.git/refs/heads/main": f"{'1' * 40}\n",
            "app/.git/objects/info/packs": "",
            "app/.git/config": "[core]\n\trepositoryformatversion = 1\n"
            f"\tfsmonitor = sh -c 'echo fsmonitor >>{mark}'\n"
            "[extensions]\n\tpartialClone = origin\n"
            '[protocol "ext"]\n\tallow = always\n'
            f'[remote "origin"]\n\turl = ext::sh -c echo% fetched% >>{mark}\n'
            "\tpromisor = true\n\tpartialclonefilter = blob:none\n",
        }
        context = upload({name: text.encode() for name, text in files.items()})
        assert images.build(context=context, context_dir="app")["result"] == "SUCCESS"
        assert service.run(source=context, commands=["sibling image build app"])["result"] == "SUCCESS"
        assert not mark.exists(), mark.read_text()

    def test_unchanged_files_of_a_workspace_are_not_sent_twice(self, service):
        dockerfile = f"printf 'FROM {BUSYBOX}\\nCOPY . /\\n' >ctx/Dockerfile"
        context = f"mkdir ctx; head -c 20000000 /dev/urandom >ctx/big; {dockerfile}"
        build = service.run(commands=[context, "sibling image build ctx", "echo x >ctx/new; sibling image build ctx"])
        log = service.text(build["id"]).decode()
        sent = re.findall(r"transferring context (\S+)B ", log)
        assert [size for size in sent if size.endswith("M")] == ["20.0M"], log

    def test_an_output_is_an_artifact_and_no_image(self, service, images):
        build = images.build(dockerfile_text=unique("echo out >/out"), output="tar")
        assert build["result"] == "SUCCESS", images.log(build)
        assert [each["path"] for each in build["artifacts"]] == ["image.tar"]
        assert not service.docker.images.list(name=service.private_name(build["id"]))
        content = service.client.get(f"/v1/builds/{build['id']}/artifacts/image.tar").content
        assert b"unique" in content

    def test_json_progress_is_buildkits_own_messages(self, images):
        build = images.build(dockerfile_text=unique(), progress="json")
        messages = [json.loads(line) for line in images.log(build).splitlines()]
        names = {vertex["name"] for message in messages for vertex in message.get("vertexes") or ()}
        assert "[internal] load build definition from Dockerfile" in names

    def test_a_build_cannot_have_the_hosts_network(self, images):
        build = images.build(dockerfile_text=f"FROM {BUSYBOX}\nRUN --network=host true\n")
        assert build["result"] == "FAILURE"
        assert "network.host is not allowed" in build["message"]

    def test_a_build_without_a_network_has_none(self, images):
        build = images.build(
            dockerfile_text=unique("ip link | grep -c ': eth' || true"), network="none", progress="plain"
        )
        assert build["result"] == "SUCCESS", images.log(build)
        assert " 0\n" in images.log(build)

    def test_a_cancel_stops_the_step_on_the_engine(self, service, images):
        mark = str(secrets.randbelow(10**6) + 10**6)
        build = images.post(dockerfile_text=unique(f"echo begun; sleep {mark}")).json()
        until(lambda: b" begun\n" in service.text_now(build["id"]), what="the step's output")
        assert _processes(mark)
        service.client.post(f"/v1/builds/{build['id']}/cancel").raise_for_status()
        ended = service.wait(build["id"])
        assert (ended["result"], ended["reason"]) == ("ABORTED", "cancelled")
        until(lambda: not _processes(mark), what="the end of the step")

    def test_a_timeout_ends_it(self, images):
        build = images.build(dockerfile_text=unique("sleep 600"), timeout=2)
        assert (build["result"], build["reason"]) == ("ABORTED", "timeout")

    def test_its_memory_is_limited(self, images):
        build = images.build(dockerfile_text=unique("head -c 200m /dev/zero | tail -c 200m | wc -c"), memory="64m")
        assert " Killed\n" in images.log(build) or build["result"] == "FAILURE"
        assert " 209715200\n" not in images.log(build)


def _processes(mark):
    import psutil

    return [
        each.info["pid"]
        for each in psutil.process_iter(["pid", "cmdline"])
        if each.info["cmdline"] and each.info["cmdline"][-1] == mark
    ]


class TestFromInside:
    def test_a_container_of_busybox_alone_builds_its_workspace(self, service, upload):
        source = upload({"Dockerfile": DOCKERFILE.encode(), "hello": b"from inside"})
        name = f"inside-{secrets.token_hex(4)}"
        build = service.run(
            source=source,
            commands=[f"sibling image build -t {name}:1 .", f"sibling run --image {name}:1 -- cat /seen", "echo over"],
        )
        log = service.text(build["id"]).decode()
        assert build["result"] == "SUCCESS", log
        assert "from inside" in log
        children = [each for each in service.client.get("/v1/builds").json()["builds"] if each["parent"] == build["id"]]
        assert {each["kind"] for each in children} == {"image-build", "container"}
        assert all(each["created_by"] == build["created_by"] for each in children)

    def test_nothing_else_is_seen_through_its_socket(self, service):
        other = service.run(commands=["echo secret of another"])
        wget = f"sibling logs --url unix:///run/sibling/api.sock {other['id']}"
        build = service.run(commands=[f"{wget} 2>&1 || true", "sibling ps", "sibling show $SIBLING_BUILD_ID | head -1"])
        log = service.text(build["id"]).decode()
        assert "secret of another" not in log
        assert f"no build {other['id']}" in log

    def test_what_a_build_asked_for_ends_with_it(self, service):
        build = service.run(commands=["sibling run --detach --image sibling-test/busybox:1 -- sleep 600"])
        child = service.text(build["id"]).decode().strip()
        ended = service.wait(child)
        assert (ended["result"], ended["parent"]) == ("ABORTED", build["id"])
        service.assert_nothing_left()

    def test_a_grandchild_is_refused(self, service):
        build = service.run(
            commands=[
                "sibling run --image sibling-test/busybox:1 -- sibling run --image sibling-test/busybox:1 -- true"
            ]
        )
        assert build["result"] == "FAILURE"
        assert "cannot ask for another one" in service.text(build["id"]).decode()

    def test_the_socket_is_gone_after_it(self, service):
        build = service.run(commands=["ls -l /run/sibling"])
        assert b"api.sock" in service.text(build["id"])
        until(lambda: not list((service.data / "sockets").iterdir()), what="the removal of the socket")
