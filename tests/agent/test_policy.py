"""A build gets what it asks for up to the maximum, and its container never more than the list here."""

import dataclasses

import pytest

from agent.builds import Build, BuildState
from agent.errors import InvalidRequest, Rejected
from agent.policy import Limits, Place, container_spec, image, limits
from agent.requests import BuildRequest
from agent.settings import BuildSettings

GIB = 1024**3
PLACE = Place(
    service_id="s1",
    volume="v",
    volume_dir="/v",
    toolkit="toolkit/1",
    network="sibling",
    runtime=None,
    cpus=4,
    memory=8 * GIB,
)


def request(**given):
    return BuildRequest(**{"image": "python:3.12", "commands": ["make"]} | given)


def spec(**given):
    build = Build(id="b1", state=BuildState.PREPARING, request=request(**given), created_by="t", created_at=0)
    return container_spec(build, BuildSettings(), PLACE)


def test_what_is_not_asked_for_is_the_default_cut_to_the_host():
    small = dataclasses.replace(PLACE, cpus=1, memory=GIB)
    assert limits(request(), BuildSettings(), small) == Limits(
        cpus=1, memory=GIB, pids=2048, shm_size=64 * 1024**2, timeout=3600
    )


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"cpus": 5}, "builds.max_cpus"),
        ({"memory": "9g"}, "builds.max_memory"),
        ({"pids": 40_000}, "builds.max_pids"),
        ({"shm_size": "9g"}, "builds.max_shm_size"),
        ({"timeout": "25h"}, "builds.max_timeout"),
    ],
)
def test_more_than_the_maximum_is_rejected_with_the_rule(asked, rule):
    with pytest.raises(Rejected) as refusal:
        limits(request(**asked), BuildSettings(), PLACE)
    assert refusal.value.rule == rule
    assert next(iter(asked)) in str(refusal.value)


def test_an_image_outside_the_allowed_ones_is_rejected():
    settings = BuildSettings(allowed_images=["registry.example/**"])
    assert image(request(image="registry.example/a/b"), settings) == "registry.example/a/b:latest"
    with pytest.raises(Rejected, match=r"registry\.example/\*\*"):
        image(request(), settings)
    with pytest.raises(Rejected, match="none at all"):
        image(request(), BuildSettings(allowed_images=[]))


def test_a_malformed_image_is_invalid_and_no_matter_of_rules():
    with pytest.raises(InvalidRequest):
        image(request(image="Python"), BuildSettings())


def test_the_engine_is_given_a_full_reference_which_no_image_id_can_shadow():
    assert spec(image="deadbeef").image == "docker.io/library/deadbeef:latest"


def test_a_container_gets_its_own_workspace_and_socket_the_toolkit_and_no_other_mount():
    mounts = [(mount.subpath, mount.target, mount.read_only) for mount in spec().mounts]
    assert mounts == [
        ("workspaces/b1", "/workspace", False),
        ("toolkit/1", "/opt/sibling", True),
        ("sockets/b1", "/run/sibling", True),
    ]


def test_no_capability_that_reaches_the_host_or_the_network():
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "MKNOD", "DAC_READ_SEARCH"} & set(spec().cap_add)


def test_secrets_are_nowhere_in_the_spec():
    assert "hunter2" not in repr(spec(secrets={"TOKEN": "hunter2"}))


def test_a_build_cannot_switch_off_group_signals_or_its_labels():
    made = spec(env={"TINI_KILL_PROCESS_GROUP": "", "CI": "no"}, labels={"sibling.service": "other"})
    assert made.env["TINI_KILL_PROCESS_GROUP"] == "1"
    assert made.env["CI"] == "no"
    assert made.labels["sibling.service"] == "s1"
