"""Hooks on a real engine, after pushes to a real registry."""

import json

import pytest

from tests.e2e.harness import BUSYBOX, image_names, until
from tests.e2e.registry import PASSWORD
from tests.e2e.test_images import Images, unique

pytestmark = pytest.mark.engine
TELL = ["sh", "-c", 'printf "<%s>\\n" "$@"', "sh"]
STAY = ["sh", "-c", "echo begun; sleep 600"]
SECRET = "hunter2-s3cret"


class Hooked(Images):
    """A service whose hooks are busybox commands, and a registry that it may push to."""

    def __init__(self, service, registry):
        super().__init__(service)
        self.registry = registry

    def begin(self, *tags, **request):
        """A build that is pushed by these names."""
        names = [self.registry.reference("hooked/app", tag) for tag in tags]
        answer = self.post(dockerfile_text=unique(), tags=names, push=True, **request)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def pushed(self, *tags):
        build = self.service.wait(self.begin(*tags))
        self.service.assert_nothing_left()
        return build

    def hooks(self):
        """Their builds, the oldest first."""
        builds = self.service.client.get("/v1/builds").json()["builds"]
        return [build for build in reversed(builds) if build["created_by"].startswith("hook:")]

    def stands(self, number=1):
        """The id of the hook that has begun, once there are so many."""
        until(lambda: len(self.hooks()) == number, what="the hook")
        hook = self.hooks()[-1]["id"]
        until(lambda: b"begun\n" in self.service.text_now(hook), what="the hook's output")
        return hook

    def remove_pushed(self):
        """Take them off the engine, also those that lost their tag to the next attempt."""
        for name in image_names(self.service.docker):
            if name.startswith(f"{self.registry.address}/"):
                self.service.remove_image(name)


@pytest.fixture
def hooked(service_with, registry_with, tmp_path):
    """Makes a service with these hooks, each a table; `users` makes a registry that wants a login, which it has."""
    made = []

    def make(hooks, *, users=()):
        registry = registry_with(users=users)
        config = f'[grants.all]\ntokens = ["*"]\npush = ["{registry.address}/hooked/**"]\n'
        if users:
            password = secret_file(tmp_path / "password", PASSWORD)
            config += f'[registries.test]\nhost = "{registry.address}"\nusername = "ci"\npassword_file = "{password}"\n'
        for name, table in hooks.items():
            config += f"[hooks.{name}]\n"
            config += "".join(f"{key} = {toml(value)}\n" for key, value in {"image": BUSYBOX, **table}.items())
        made.append(Hooked(service_with(config=config), registry))
        return made[-1]

    yield make
    for images in made:
        images.remove_pushed()


def secret_file(path, text):
    path.touch(0o600)
    path.write_text(text)
    return path


def toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)  # of lists, texts and truth values it is TOML, too


def test_it_is_given_what_was_pushed_and_has_a_record_and_a_log_of_its_own(hooked):
    images = hooked({"tell": {"argv": [*TELL, "{reference}", "{tag}", "{digest}", "{repository}", "$(id)"]}})
    build = images.pushed("1", "2")
    assert build["result"] == "SUCCESS", images.log(build)
    repository = f"{images.registry.address}/hooked/app"
    digest = images.registry.digest("hooked/app", "1")
    for tag, hook in zip("12", images.hooks(), strict=True):
        assert (hook["kind"], hook["parent"], hook["result"]) == ("container", build["id"], "SUCCESS")
        assert (hook["created_by"], hook["labels"]) == ("hook:tell", {"hook": "tell"})
        told = [f"{repository}@{digest}", f"{repository}:{tag}", digest, repository, "$(id)"]
        assert images.log(hook) == "".join(f"<{each}>\n" for each in told)
        assert "hook tell: SUCCESS in " in images.log(build)
        assert f", build {hook['id']}\n" in images.log(build)


def test_one_that_fails_fails_the_build_whose_image_is_pushed(hooked):
    images = hooked({"sign": {"argv": ["sh", "-c", "echo no key >&2; exit 7"]}})
    build = images.pushed("1")
    (hook,) = images.hooks()
    assert (build["result"], build["reason"]) == ("FAILURE", "hook")
    name = images.registry.reference("hooked/app", "1")
    assert build["message"] == f"pushed {name}, but hook sign failed: exit code 7 (build {hook['id']})"
    assert build["image_build"]["digest"] == images.registry.digest("hooked/app", "1")
    assert images.log(hook).startswith("no key\n")


def test_its_files_are_artifacts_of_its_build(hooked):
    argv = ["sh", "-c", 'echo "of $1" >sbom.json', "sh", "{tag}"]
    images = hooked({"sbom": {"argv": argv, "artifacts": ["sbom.json"]}})
    build = images.pushed("1")
    (hook,) = images.hooks()
    assert build["result"] == "SUCCESS", images.log(build)
    content = images.service.client.get(f"/v1/builds/{hook['id']}/artifacts/sbom.json").content
    assert content.decode() == f"of {images.registry.reference('hooked/app', '1')}\n"


def test_a_secret_is_in_no_inspect_and_no_log(hooked, tmp_path):
    file = secret_file(tmp_path / "key", SECRET)
    argv = ["sh", "-c", "echo $KEY; test $(expr length $KEY) = 14 && echo begun; sleep 600"]
    images = hooked({"sign": {"argv": argv, "secret_files": {"KEY": str(file)}}})
    build = images.begin("1")
    hook = images.stands()
    container = images.service.container(hook)
    assert container.attrs["Config"]["Image"] == f"docker.io/{BUSYBOX}"
    assert SECRET not in json.dumps(container.attrs)
    assert SECRET not in json.dumps(images.service.build(hook))
    assert SECRET not in json.dumps(container.top(ps_args="-eo pid,args"))
    assert images.service.text_now(hook) == b"****\nbegun\n"
    images.service.client.post(f"/v1/builds/{build}/cancel").raise_for_status()
    assert images.service.wait(build)["reason"] == "cancelled"
    assert images.service.wait(hook)["reason"] == "cancelled"
    images.service.assert_nothing_left()


@pytest.mark.parametrize("image", [BUSYBOX, "sibling-test/user:1"])
def test_the_registrys_login_is_a_file_that_its_user_can_read(hooked, image):
    script = "cd $DOCKER_CONFIG; set -- $(ls -ln config.json); echo $1 $(( $3 == $(id -u) )); cat config.json"
    images = hooked({"sign": {"image": image, "argv": ["sh", "-c", script], "registry_login": True}}, users=("ci",))
    build = images.pushed("1")
    (hook,) = images.hooks()
    log = images.log(hook)
    assert build["result"] == "SUCCESS", log
    assert log == "-rw------- 1\n****"  # the whole file is a secret


def test_a_hook_can_ask_for_nothing(hooked):
    tries = ["sibling ps", "sibling run --image busybox -- true", "sibling image push x", "sibling image ls"]
    script = "; ".join(f"{each} && echo REACHED" for each in tries)
    images = hooked({"curious": {"argv": ["sh", "-c", f"{script}; true"]}})
    build = images.pushed("1")
    (hook,) = images.hooks()
    log = images.log(hook)
    assert build["result"] == "SUCCESS", log
    assert "REACHED" not in log
    assert log.count("a hook has no identity here") == len(tries), log
    everything = images.service.client.get("/v1/builds").json()["builds"]
    assert {each["id"] for each in everything} == {build["id"], hook["id"]}


def test_after_a_kill_the_build_is_begun_anew_and_the_old_hook_ended(hooked):
    images = hooked({"stay": {"argv": STAY}})
    service = images.service
    build = images.begin("1")
    old = images.stands()
    service.kill()
    service.start()
    new = images.stands(2)
    assert service.wait(old)["reason"] == "cancelled"
    assert service.build(new)["parent"] == build
    until(lambda: len([each for each in service.containers() if "sibling.build" in each.labels]) == 1, what="one hook")
    service.client.post(f"/v1/builds/{build}/cancel").raise_for_status()
    assert service.wait(new)["result"] == "ABORTED"
    service.assert_nothing_left()
