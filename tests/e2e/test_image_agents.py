"""A job of the controller builds and pushes from its agent's container, as far as the grant of its folder goes."""

import secrets

import pytest

from tests.e2e.harness import BUSYBOX, image_names, until
from tests.e2e.jenkins import BUSYBOX_LABEL

pytestmark = pytest.mark.engine


def steps(name):
    return [
        f"printf 'FROM {BUSYBOX}\\nRUN echo {secrets.token_hex(4)} >/x\\n' >Dockerfile",
        f"sibling image build -t {name} --push .",
        f"sibling run --image {name} -- cat /x",
    ]


@pytest.fixture
def service(agents_with, registry):
    config = f'[grants.team]\njobs = ["team-a/**"]\npush = ["{registry.address}/team-a/**"]\n'
    made = agents_with(config=config)
    yield made
    for name in image_names(made.docker):
        if name.startswith(f"{registry.address}/"):
            made.remove_image(name)


def test_a_pipeline_in_a_busybox_image_builds_pushes_and_runs(service, jenkins, registry):
    name = registry.reference("team-a/app", "1")
    jenkins.add_pipeline("team-a/app", BUSYBOX_LABEL, steps(name))
    build = jenkins.wait_ended(jenkins.build("team-a/app"), 120)
    assert build.result == "SUCCESS", build.console
    assert registry.digest("team-a/app", "1") in build.console
    listed = service.client.get("/v1/images").json()["images"]
    assert [(each["created_by"], each["tags"]) for each in listed] == [("job:team-a/app", [name])]


def test_a_job_of_another_folder_may_not_push_there(service, jenkins, registry):
    name = registry.reference("team-a/stolen", "1")
    jenkins.add_pipeline("team-ab/app", BUSYBOX_LABEL, steps(name))
    build = jenkins.wait_ended(jenkins.build("team-ab/app"), 120)
    assert build.result == "FAILURE"
    assert "grants" in build.console
    assert registry.digest("team-a/stolen", "1") is None


def test_an_abort_of_the_job_cancels_what_it_asked_for(service, jenkins):
    mark = str(secrets.randbelow(10**6) + 10**6)
    command = f"printf 'FROM {BUSYBOX}\\nRUN sleep {mark}\\n' | sibling image build -"
    jenkins.add_freestyle("team-a/long", BUSYBOX_LABEL, command)
    item = jenkins.build("team-a/long")

    def building():
        builds = service.client.get("/v1/builds", params={"state": "running"}).json()["builds"]
        return next((each for each in builds if each["kind"] == "image-build"), None)

    child = until(building, 60, "the image build")
    jenkins.stop_build(jenkins.wait_started(item))
    ended = service.wait(child["id"])
    assert ended["result"] == "ABORTED"
    assert jenkins.wait_ended(item).result == "ABORTED"
