"""What people do with a gate on a real engine: images made, named, saved, pruned, and those of registries."""

import io
import json
import os
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import docker
import pytest

from agent.references import push_mark
from tests.e2e.gate_process import POLICY, cli
from tests.e2e.harness import BUSYBOX, image_ids, image_names, until
from tests.e2e.registry import PASSWORD

pytestmark = pytest.mark.engine


def test_no_image_makes_a_container_look_like_one_of_the_services_own(gate):
    gate.create("box")
    changes = quote("LABEL sibling.service=s Sibling.role=r mine=m")
    assert gate.ask("POST", f"/commit?container=box&repo=dressed&changes={changes}")[0] == 201
    gate.create("dressed", Image="dressed")
    (labels,) = (each["Config"]["Labels"] for each in gate.own() if each["Name"].endswith(".dressed"))
    assert {labels["sibling.service"], labels["Sibling.role"]} == {""}
    assert (labels["mine"], labels["sibling.gate"]) == ("m", gate.build)
    cli(gate, "rm", "dressed")
    cli(gate, "rmi", "dressed")


def test_images_are_committed_tagged_listed_and_removed_under_names_of_the_build_alone(gate):
    cli(gate, "run", "--name", "box", BUSYBOX, "touch", "/made")
    cli(gate, "commit", "box", "app:1")
    cli(gate, "tag", "app:1", "registry.example/team/app:2")
    assert cli(gate, "run", "--rm", "app:1", "ls", "/made").stdout == b"/made\n"
    names = cli(gate, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().split()
    assert {"app:1", "registry.example/team/app:2", BUSYBOX} <= set(names)
    assert not [name for name in names if not name.startswith(("app:", "registry.example/", "sibling-test/"))]
    with pytest.raises(docker.errors.ImageNotFound):
        gate.engine.images.get("app:1")
    cli(gate, "rmi", "registry.example/team/app:2")
    cli(gate, "rmi", "app:1")
    assert cli(gate, "run", "--rm", "app:1", "true", check=False).returncode == 125


def test_what_is_committed_has_the_settings_that_the_engines_own_would_have(gate):
    words = ["--label", "own=1", "-v", "/asked", "-e", "A=b", "--expose", "90", "-w", "/tmp", "-h", "box", "-u", "1"]
    found = []
    for client, name in ((gate.client, "box"), (gate.engine, "sibling-raw-commit")):
        address = gate.host if client is gate.engine else f"unix://{gate.socket}"
        environment = {**os.environ, "DOCKER_HOST": address}
        for command in (
            ["create", "--name", name, *words, BUSYBOX, "sh", "-c", "true"],
            ["commit", "-c", "VOLUME /more", "-c", "LABEL changed=2", name, f"{name}:1"],
        ):
            subprocess.run(["docker", *command], env=environment, check=True, capture_output=True)
        image = client.images.get(f"{name}:1")
        found.append((image.attrs["Config"], image.history()[0]["CreatedBy"]))
        assert not [each for each in json.dumps(found[-1]).split('"') if each.startswith("sibling.")]
        client.containers.get(name).remove(v=True)
        client.images.remove(f"{name}:1")
    assert found[0] == found[1]


def test_a_commit_takes_several_changes(gate):
    gate.create("box")
    cli(gate, "commit", "-c", "ENV ONE=1", "-c", "ENV TWO=2", "-m", "first\nsecond", "box", "changed:1")
    (image,) = json.loads(cli(gate, "image", "inspect", "changed:1").stdout)
    assert {"ONE=1", "TWO=2"} < {*image["Config"]["Env"]}
    assert image["Comment"] == "first\nsecond"
    cli(gate, "rmi", "changed:1")


def test_an_image_is_imported_and_an_own_name_goes_before_a_shared_one(gate):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("own")
        tar.addfile(member, io.BytesIO())
    before = gate.engine.images.get(BUSYBOX).id
    cli(gate, "import", "-", BUSYBOX, stdin=data.getvalue())
    assert gate.client.images.get(BUSYBOX).id != before
    assert gate.engine.images.get(BUSYBOX).id == before
    cli(gate, "rmi", BUSYBOX)
    assert gate.client.images.get(BUSYBOX).id == before


def test_a_registry_is_asked_for_what_may_be_pulled_alone(gate):
    assert gate.ask("GET", "/distribution/127.0.0.1:1/x/json")[0] == 403
    assert gate.ask("GET", "/distribution/sibling.local/x/json")[0] == 403


def test_a_login_is_checked_where_images_may_go_and_a_push_tells_its_digest(gate_of, registry_with, tmp_path):
    registry = registry_with(users=("ci",))
    gate = gate_of("login", f'push = ["{registry.address}/team/**"]\n' + POLICY).start()
    config = ["--config", str(tmp_path / "docker")]
    words = [*config, "login", "-u", "ci", "--password-stdin"]
    assert b"Login Succeeded" in cli(gate, *words, registry.address, stdin=PASSWORD.encode()).stdout
    assert cli(gate, *words, registry.address, stdin=b"wrong", check=False).returncode != 0
    refused = cli(gate, *words, "elsewhere.example:5000", stdin=b"x", check=False)
    assert b"(auth)" in refused.stderr
    name = registry.reference("team/app", "1")
    gate.create("box")
    cli(gate, "commit", "box", name)
    cli(gate, *config, "push", name)
    digest = registry.digest("team/app", "1")
    told = cli(gate, "image", "inspect", "--format", "{{index .RepoDigests 0}}", name).stdout.decode().strip()
    assert told == f"{name.rpartition(':')[0]}@{digest}"


def test_what_was_pulled_under_a_name_is_pushed_over_as_with_cache_from(gate_of, registry):
    pattern = f'["{registry.address}/team/**"]'
    first, second = (gate_of(f"over-{each}", f"push = {pattern}\npull = {pattern}\n{POLICY}").start() for each in "12")
    name = registry.reference("team/over", "1")
    cli(first, "tag", BUSYBOX, name)
    cli(first, "push", name)
    digest = registry.digest("team/over", "1")
    said = cli(second, "pull", name).stdout.decode().splitlines()
    assert said[0] == "1: Pulling from team/over"
    assert said[-2:] == [f"Status: Downloaded newer image for {name}", name]
    assert f"Digest: {digest}" in said
    assert cli(second, "run", "--rm", name, "echo", "pulled").stdout == b"pulled\n"
    cli(second, "run", "--name", "box", name, "touch", "/new")
    cli(second, "commit", "box", name)
    cli(second, "push", name)
    assert registry.digest("team/over", "1") != digest
    cli(first, "pull", name)
    assert b"up to date" in cli(first, "pull", name).stdout
    assert cli(first, "run", "--rm", name, "ls", "/new").stdout == b"/new\n"
    assert not first.engine.images.list(name)
    missing = cli(first, "pull", registry.reference("team/over", "2"), check=False)
    assert b"manifest unknown" in missing.stderr


def test_what_has_no_name_is_pruned_and_with_a_all_that_no_container_has(gate):
    for _ in range(2):  # the second takes the name from the first
        cli(gate, "run", "--name", "box", BUSYBOX, "touch", "/file")
        cli(gate, "commit", "box", "local/pruned:1")
        cli(gate, "rm", "box")
    cli(gate, "tag", "local/pruned:1", "local/pruned:2")
    (dangling,) = cli(gate, "images", "-qf", "dangling=true", "--no-trunc").stdout.split()
    assert cli(gate, "image", "prune", "-f", "--filter", "until=24h").stdout == b"Total reclaimed space: 0B\n"
    assert b"deleted: " + dangling in cli(gate, "image", "prune", "-f").stdout
    assert cli(gate, "images", "-q", "local/pruned").stdout.count(b"\n") == 2
    with pytest.raises(docker.errors.ImageNotFound):
        gate.engine.images.get(dangling.decode())
    cli(gate, "create", "--name", "box", "local/pruned:1")
    assert cli(gate, "image", "prune", "-af").stdout == b"Total reclaimed space: 0B\n"
    cli(gate, "rm", "box")
    said = cli(gate, "image", "prune", "-af").stdout
    assert b"untagged: local/pruned:1\nuntagged: local/pruned:2\ndeleted: " in said
    assert cli(gate, "images", "-q", "local/pruned").stdout == b""
    assert gate.engine.images.get(BUSYBOX)


def test_all_tags_of_a_repository_are_saved_by_its_name(gate):
    for name in ("local/saved:1", "local/saved:2", "local/saved-not:1"):
        cli(gate, "tag", BUSYBOX, name)
    with tarfile.open(fileobj=io.BytesIO(cli(gate, "save", "local/saved").stdout)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))
    assert sorted(entry["RepoTags"]) == ["local/saved:1", "local/saved:2"]
    with tarfile.open(fileobj=io.BytesIO(cli(gate, "save", BUSYBOX.partition(":")[0]).stdout)) as archive:
        (entry,) = json.load(archive.extractfile("manifest.json"))
    assert entry["RepoTags"] == [BUSYBOX]
    assert cli(gate, "save", "local/none", check=False).returncode == 1
    cli(gate, "rmi", "local/saved:1", "local/saved:2", "local/saved-not:1")


def test_what_an_image_was_made_of_goes_with_it(gate):
    cli(gate, "run", "--name", "box", BUSYBOX, "touch", "/file")
    before = image_ids(gate.engine)
    cli(gate, "commit", "box", "local/whole:1")
    made = image_ids(gate.engine) - before
    assert gate.ask("DELETE", "/images/local/whole:1?noprune=1")[0] == 200
    assert not made & image_ids(gate.engine)


def test_an_image_that_a_container_has_goes_with_the_gate_though_it_was_removed(gate_of):
    gate = gate_of("forced").start()
    before = image_ids(gate.engine)
    cli(gate, "run", "--name", "box", BUSYBOX, "touch", "/file")
    cli(gate, "commit", "box", "local/forced:1")
    made = image_ids(gate.engine) - before
    cli(gate, "run", "-d", "local/forced:1", "sleep", "600")
    cli(gate, "rmi", "-f", "local/forced:1")
    assert made & image_ids(gate.engine)
    assert gate.stop() == 0
    assert not made & image_ids(gate.engine)


def test_a_push_leaves_one_name_where_one_was_asked_for(gate_of, registry):
    pattern = f'["{registry.address}/**"]'
    gate = gate_of("one-name", f"push = {pattern}\npull = {pattern}\n{POLICY}").start()
    gate.create("box")
    cli(gate, "commit", "box", "local/one:1")
    names = [registry.reference(f"team/{each}", "1") for each in ("b", "a")]
    for name in names:
        cli(gate, "tag", "local/one:1", name)
        cli(gate, "push", name)
        cli(gate, "push", "-q", name)
    assert cli(gate, "images", "-q", "local/one").stdout.count(b"\n") == 1
    digests = "{{range .RepoDigests}}{{println .}}{{end}}"
    first, *_ = told = cli(gate, "image", "inspect", "--format", digests, "local/one:1").stdout.split()
    assert first.startswith(names[1].rpartition(":")[0].encode() + b"@")
    assert len(told) == 2
    said = cli(gate, "rmi", names[1]).stdout.splitlines()
    assert said == [f"Untagged: {names[1]}".encode(), b"Untagged: " + first]
    assert first not in cli(gate, "image", "inspect", "--format", digests, "local/one:1").stdout


def test_no_push_ends_the_name_of_another_one(gate_of, registry):
    gate = gate_of("pushes", f'push = ["{registry.address}/**"]\n{POLICY}').start()
    name = registry.reference("team/pushes", "1")
    cli(gate, "tag", BUSYBOX, name)
    with ThreadPoolExecutor(4) as pool:
        pushed = list(pool.map(lambda _: cli(gate, "push", name, check=False), range(24)))
    assert [each.stderr for each in pushed if each.returncode] == []
    names = {name, push_mark(name)}  # the last one is taken away after its answer
    until(lambda: names.isdisjoint(image_names(gate.engine)), what="the end of the name")


@pytest.mark.parametrize("how", ["rmi", "prune", "end"])
def test_nothing_stays_of_what_was_pulled_for_the_build_alone(gate_of, registry, how):
    pattern = f'["{registry.address}/**"]'
    policy = f"push = {pattern}\npull = {pattern}\n{POLICY}"
    first, second = (gate_of(f"stays-{how}-{each}", policy).start() for each in "12")
    name = registry.reference(f"team/stays-{how}", "1")
    cli(first, "run", "--name", "box", BUSYBOX, "touch", "/file")
    before = image_ids(first.engine)
    cli(first, "commit", "box", name)
    made = image_ids(first.engine) - before
    cli(first, "push", name)
    assert first.stop() == 0
    assert not made & image_ids(first.engine)
    cli(second, "pull", name)
    assert made & image_ids(second.engine)
    if how != "end":
        words = {"rmi": ["rmi", name], "prune": ["image", "prune", "-af"]}
        assert b"deleted: " in cli(second, *words[how]).stdout.lower()
        assert not made & image_ids(second.engine)
    assert second.stop() == 0
    assert not made & image_ids(second.engine)
    assert not [each for each in image_names(second.engine) if each.startswith(name.rpartition(":")[0])]
