"""Many builds at once: every one gets its result, and nothing is left."""

import pytest

from tests.e2e.harness import until

pytestmark = pytest.mark.engine


def test_50_builds_at_once_give_50_results_and_leave_nothing(service_with):
    service = service_with(queue__slots=12)
    before = things_of(service)
    builds = {service.post(commands=[f"echo {n}", f"exit {n % 3}"]): n for n in range(50)}
    for build_id, n in builds.items():
        build = service.wait(build_id, seconds=180)
        assert build["exit_code"] == n % 3, build
        assert service.text(build_id).startswith(b"%d\n" % n)
    service.assert_nothing_left()
    until(lambda: things_of(service) <= before, 30, "the end of what is new")


def things_of(service):
    """Its networks and volumes by name, and volumes without one, which other tests may have for a while as well."""
    names = [each.name for each in (*service.docker.networks.list(), *service.docker.volumes.list())]
    return {name for name in names if name.startswith(service.name) or len(name) == 64}


def test_builds_that_do_not_fit_into_the_memory_wait_for_their_turn(service_with):
    total = 2 * 1024**3
    service = service_with(queue__slots=8, queue__memory_overcommit=0.1, builds__memory=str(total))
    first, second = (service.post(commands=["sleep 1"]) for _ in range(2))
    builds = [service.wait(first), service.wait(second)]
    assert [build["result"] for build in builds] == ["SUCCESS"] * 2
    assert builds[0]["finished_at"] <= builds[1]["started_at"]
