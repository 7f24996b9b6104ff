"""Images pushed to a real registry, through one that fails, and from inside of containers."""

import contextlib
import secrets

import psutil
import pytest

from tests.e2e.certificate import make_certificate
from tests.e2e.harness import BUSYBOX, image_names, until
from tests.e2e.registry import PASSWORD, trusted
from tests.e2e.registry_proxy import ALWAYS, Fault, FaultProxy, blob_upload, manifest_put
from tests.e2e.test_images import Images, unique

pytestmark = pytest.mark.engine


@pytest.fixture
def guarded(registry_with):
    return registry_with(users=("ci",))


@pytest.fixture
def pushing(service_with, tmp_path):
    """A service that may push to a registry, with a login there if a password is given."""

    made = []

    def make(address, password=None):
        config = f'[grants.all]\ntokens = ["*"]\npush = ["{address}/team-a/**"]\n'
        if password is not None:
            secret = tmp_path / "password"
            secret.touch(0o600)
            secret.write_text(password)
            config += f'[registries.test]\nhost = "{address}"\nusername = "ci"\npassword_file = "{secret}"\n'
        made.append((address, service_with(config=config)))
        return Images(made[-1][1])

    yield make
    for address, service in made:
        for name in image_names(service.docker):
            if name.startswith(f"{address}/"):
                service.remove_image(name)


class TestPush:
    def test_two_tags_are_pushed_pulled_on_an_emptied_engine_and_run(self, registry, pushing):
        images = pushing(registry.address)
        name = registry.reference("team-a/app", "1")
        latest = registry.reference("team-a/app", "latest")
        build = images.build(dockerfile_text=unique("echo pulled >/f"), tags=[name, latest], push=True)
        assert build["result"] == "SUCCESS", images.log(build)
        made = build["image_build"]
        assert made["digest"] == registry.digest("team-a/app", "1") == registry.digest("team-a/app", "latest")
        assert made["pushed"] == [{"reference": tag, "digest": made["digest"]} for tag in (name, latest)]
        engine = images.service.docker
        for tag in (name, latest, images.service.private_name(build["id"])):
            engine.images.remove(tag, force=True)
        engine.api.prune_builds()
        run = images.service.run(image=name, commands=["cat /f"])
        assert images.service.text(run["id"]).endswith(b"pulled\n")
        assert "pull" in run["phases"]

    def test_an_image_is_pushed_later_by_the_name_that_it_was_given(self, registry, pushing):
        images = pushing(registry.address)
        name = registry.reference("team-a/later", "2")
        images.build(dockerfile_text=unique(), tags=[name])
        assert registry.digest("team-a/later", "2") is None
        answer = images.service.client.post("/v1/images/pushes", json={"images": [name]})
        push = images.service.wait(answer.json()["id"])
        assert (push["kind"], push["result"]) == ("image-push", "SUCCESS")
        assert push["image_build"]["digest"] == registry.digest("team-a/later", "2")

    @pytest.mark.parametrize("name", ["team-ab/app:1", "other/app:1", "team-a:1"])
    def test_what_no_grant_covers_is_refused_before_anything_is_built(self, registry, pushing, name):
        images = pushing(registry.address)
        answer = images.post(dockerfile_text=unique(), tags=[f"{registry.address}/{name}"], push=True)
        assert (answer.status_code, answer.json()["rule"]) == (403, "grants")
        assert images.service.client.get("/v1/builds").json()["builds"] == []

    def test_what_another_built_cannot_be_pushed_nor_what_the_host_has(self, registry, pushing):
        images = pushing(registry.address)
        host_image = registry.reference("team-a/host", "1")
        images.service.docker.images.get(BUSYBOX).tag(host_image)
        answer = images.service.client.post("/v1/images/pushes", json={"images": [host_image]})
        assert answer.status_code == 422
        assert "no image" in answer.json()["detail"]

    def test_a_build_inside_of_busybox_alone_pushes(self, registry, pushing):
        images = pushing(registry.address)
        name = registry.reference("team-a/inside", "1")
        dockerfile = f"printf 'FROM {BUSYBOX}\\nRUN echo {secrets.token_hex(4)} >/x\\n' >Dockerfile"
        build = images.service.run(
            commands=[dockerfile, f"sibling image build -t {name} --push --metadata-file m.json .", "cat m.json"]
        )
        log = images.log(build)
        assert build["result"] == "SUCCESS", log
        assert registry.digest("team-a/inside", "1") in log
        refused = images.service.run(
            commands=[dockerfile, f"sibling image build -t {registry.reference('team-b/x', '1')} --push ."]
        )
        assert refused["result"] == "FAILURE"
        assert "grants" in images.log(refused)


class TestLogin:
    def test_the_password_is_used_and_shown_nowhere(self, guarded, pushing):
        images = pushing(guarded.address, PASSWORD)
        mark = f"secret-of-the-build-{secrets.token_hex(8)}"
        name = guarded.reference("team-a/secret", "1")
        text = (
            f"FROM {BUSYBOX}\nRUN --mount=type=secret,id=key cat /run/secrets/key; sleep 1; "
            f"echo {secrets.token_hex(8)} >/unique\n"
        )
        posted = images.post(dockerfile_text=text, tags=[name], push=True, secrets={"key": mark}).json()
        seen = []
        until(lambda: seen.extend(_command_lines()) or images.service.build(posted["id"])["state"] == "finished")
        build = images.service.build(posted["id"])
        assert build["result"] == "SUCCESS", images.log(build)
        assert any("docker-buildx" in line for line in seen)
        history = str(images.service.docker.images.get(name).history())
        inspect = str(images.service.docker.images.get(name).attrs)
        places = [images.log(build), history, inspect, str(build), images.service.log.read_text(), *seen]
        for secret in (mark, PASSWORD):
            assert not [place for place in places if secret in place]
        assert "****" in images.log(build)

    def test_a_wrong_password_is_told_and_not_tried_again(self, guarded, pushing):
        images = pushing(guarded.address, "wrong")
        build = images.build(dockerfile_text=unique(), tags=[guarded.reference("team-a/x", "1")], push=True)
        assert (build["result"], build["reason"]) == ("FAILURE", "push")
        assert "unauthorized" in build["message"]
        assert "again, try" not in images.log(build)
        assert build["image_build"]["pushed"] == []

    def test_no_login_at_all_is_told(self, guarded, pushing):
        images = pushing(guarded.address)
        build = images.build(dockerfile_text=unique(), tags=[guarded.reference("team-a/x", "1")], push=True)
        assert (build["result"], build["reason"]) == ("FAILURE", "push")
        assert "no basic auth credentials" in build["message"]

    def test_a_base_that_needs_a_login_is_pulled(self, guarded, pushing):
        images = pushing(guarded.address, PASSWORD)
        base = guarded.reference("team-a/base", "1")
        made = images.build(dockerfile_text=unique("echo base >/base"), tags=[base], push=True)
        engine = images.service.docker
        engine.images.remove(base, force=True)
        engine.images.remove(images.service.private_name(made["id"]), force=True)
        engine.api.prune_builds()
        # Under another name than the caller's own, so that it must come from the registry.
        by_digest = f"{base.rpartition(':')[0]}@{made['image_build']['digest']}"
        build = images.build(dockerfile_text=f"FROM {by_digest}\nRUN cat /base\n")
        assert build["result"] == "SUCCESS", images.log(build)
        assert build["image_build"]["bases"][0]["digest"] == made["image_build"]["digest"]


class TestCertificates:
    def test_a_registry_of_an_authority_that_the_engine_trusts_is_pushed_to(
        self, registry_with, pushing, docker_host, tmp_path
    ):
        import docker

        with contextlib.closing(docker.APIClient(base_url=docker_host, version="1.45")) as engine:
            bridge = engine.inspect_network("bridge")["IPAM"]["Config"][0]["Gateway"]
        certificate = make_certificate(tmp_path, bridge)
        registry = registry_with(certificate=certificate, host=bridge, users=("ci",))
        images = pushing(registry.address, PASSWORD)
        text, name = unique(), registry.reference("team-a/tls", "1")
        unknown = images.build(dockerfile_text=text, tags=[name], push=True)
        assert (unknown["result"], unknown["reason"]) == ("FAILURE", "push")
        assert "failed to verify certificate" in unknown["message"]
        with trusted(registry.address, certificate):
            build = images.build(dockerfile_text=text, tags=[name], push=True)
        assert build["result"] == "SUCCESS", images.log(build)
        assert build["image_build"]["digest"] == registry.digest("team-a/tls", "1")


class TestFaults:
    def pushed_through(self, pushing, registry, *faults, tags=("1",)):
        with FaultProxy(registry.address, *faults) as proxy:
            images = pushing(proxy.address)
            self.repository = f"team-a/{secrets.token_hex(4)}"
            names = [f"{proxy.address}/{self.repository}:{tag}" for tag in tags]
            text = unique("head -c 3000000 /dev/urandom >/big")
            build = images.build(dockerfile_text=text, tags=names, push=True)
            return images, build, names

    def test_a_registry_that_is_away_for_a_moment_is_tried_again(self, registry, pushing):
        images, build, _ = self.pushed_through(pushing, registry, manifest_put(status=503, times=1))
        assert build["result"] == "SUCCESS", images.log(build)
        assert build["image_build"]["digest"] == registry.digest(self.repository, "1")

    def test_an_upload_that_is_cut_once_goes_on(self, registry, pushing):
        images, build, _ = self.pushed_through(pushing, registry, blob_upload(cut_after=1_000_000, times=1))
        assert build["result"] == "SUCCESS", images.log(build)
        assert build["image_build"]["digest"] == registry.digest(self.repository, "1")

    def test_one_tag_of_two_is_no_success_and_the_host_keeps_no_tag_of_it(self, registry, pushing):
        fault = Fault("PUT", "/manifests/2", status=403, times=ALWAYS)
        images, build, names = self.pushed_through(pushing, registry, fault, tags=("1", "2"))
        assert (build["result"], build["reason"]) == ("FAILURE", "push")
        assert f"pushed before that: {names[0]}" in build["message"]
        assert [each["reference"] for each in build["image_build"]["pushed"]] == names[:1]
        assert registry.tags(self.repository) == ["1"]
        assert names[1] not in image_names(images.service.docker)

    def test_a_registry_that_is_down_is_told(self, registry_with, pushing):
        registry = registry_with()
        images = pushing(registry.address)
        registry.stop()
        build = images.build(dockerfile_text=unique(), tags=[registry.reference("team-a/x", "1")], push=True)
        assert (build["result"], build["reason"]) == ("FAILURE", "push")
        assert "connection refused" in build["message"]
        assert "again, try 3 of 3" in images.log(build)

    def test_a_slow_push_can_be_cancelled(self, registry, pushing):
        with FaultProxy(registry.address, blob_upload(rate=10_000, times=ALWAYS)) as proxy:
            images = pushing(proxy.address)
            name = f"{proxy.address}/team-a/slow:1"
            text = unique("head -c 3000000 /dev/urandom >/big")
            posted = images.post(dockerfile_text=text, tags=[name], push=True).json()
            until(lambda: b"pushing" in images.service.text_now(posted["id"]), what="the push")
            images.service.client.post(f"/v1/builds/{posted['id']}/cancel").raise_for_status()
            build = images.service.wait(posted["id"])
            assert (build["result"], build["reason"]) == ("ABORTED", "cancelled")
            assert name not in image_names(images.service.docker)


class TestBases:
    def test_a_base_that_is_not_allowed_is_refused_by_the_rules_name(self, service_with):
        images = Images(service_with(images__allowed_bases="docker.io/sibling-test/debian:*"))
        build = images.build(dockerfile_text=unique())
        assert (build["result"], build["reason"]) == ("FAILURE", "policy")
        assert f"docker.io/{BUSYBOX}" in build["message"]
        assert images.build(dockerfile_text="FROM sibling-test/debian:1\nRUN true\n")["result"] == "SUCCESS"

    def test_an_image_or_output_that_is_too_large_is_not_kept(self, service_with):
        images = Images(service_with(images__max_size="1m", images__max_output="1m"))
        output = images.build(dockerfile_text=unique(), output="tar")
        assert (output["result"], output["reason"], output["artifacts"]) == ("FAILURE", "policy", [])
        assert "the output has" in output["message"]
        build = images.build(dockerfile_text=unique())
        assert (build["result"], build["reason"]) == ("FAILURE", "policy")
        assert not images.service.docker.images.list(name=images.service.private_name(build["id"]))


def test_a_kill_in_the_middle_builds_anew(service_with):
    images = Images(service_with())
    service = images.service
    text = unique("echo begun; sleep 3; echo done")
    posted = images.post(dockerfile_text=text).json()
    until(lambda: b" begun\n" in service.text_now(posted["id"]), what="the step's output")
    service.kill()
    service.start()
    build = service.wait(posted["id"])
    assert build["result"] == "SUCCESS", images.log(build)
    assert "beginning again" in images.log(build)
    for folder in ("contexts", "buildx"):
        until(lambda folder=folder: not list((service.data / folder).iterdir()), what=f"an empty {folder}")


def _command_lines():
    return ["\0".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]


def test_a_builds_socket_is_there_again_after_a_kill(service_with):
    service = service_with()
    build = service.post(
        commands=["echo begun", "until [ -e /tmp/go ]; do sleep 0.1; done", "sibling ps && echo asked"]
    )
    until(lambda: b"begun\n" in service.text_now(build), what="the build's output")
    service.kill()
    service.start()
    assert service.container(build).exec_run(["touch", "/tmp/go"]).exit_code == 0
    assert service.wait(build)["result"] == "SUCCESS", service.text(build)
    assert b"asked\n" in service.text(build)
