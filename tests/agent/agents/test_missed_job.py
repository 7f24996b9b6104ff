"""A build that no look has shown is told by its workspace, and believed only if the controller agrees."""

import pytest

from agent.agents.missed_job import find_missed_job
from agent.controller import Run

pytestmark = pytest.mark.anyio
NODE = "sibling-1"


class Controller:
    """Has a last build of each of these jobs, by path, on that node."""

    url = "http://jenkins/"

    def __init__(self, **nodes):
        self.nodes, self.asked = nodes, []

    async def run(self, url):
        path = url.removeprefix(self.url).removesuffix("lastBuild/")
        self.asked.append(path)
        if path not in self.nodes:
            return None
        return Run(
            url=f"{self.url}{path}7/", number=7, name="x #7", building=False, result="SUCCESS", node=self.nodes[path]
        )


def made(folder, *paths):
    for path in paths:
        (folder / "workspace" / path).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("hello", "job/hello/"),
        ("team/app", "job/team/job/app/"),
        ("a b/\u00fc?", "job/a%20b/job/%C3%BC%3F/"),
    ],
)
async def test_the_job_is_found_however_deep_it_is(tmp_path, path, url):
    workspace = made(tmp_path, f"{path}/src/main", f"{path}@tmp")
    job = await find_missed_job(Controller(**{url: NODE}), NODE, workspace)
    assert (job.url, job.number) == (f"http://jenkins/{url}7/", 7)


@pytest.mark.parametrize("node", ["sibling-2", None])
async def test_a_build_on_another_node_is_none_of_ours(tmp_path, node):
    assert await find_missed_job(Controller(**{"job/hello/": node}), NODE, made(tmp_path, "hello/src")) is None


async def test_a_build_cannot_have_us_ask_for_ever_or_look_elsewhere(tmp_path):
    workspace = made(tmp_path, *(f"{outer}/{inner}" for outer in range(50) for inner in range(50)))
    (workspace / "workspace" / "link").symlink_to("/")
    controller = Controller()
    assert await find_missed_job(controller, NODE, workspace) is None
    assert len(controller.asked) == 10
    assert not any("link" in path for path in controller.asked)


async def test_without_a_workspace_nothing_is_asked(tmp_path):
    controller = Controller()
    assert await find_missed_job(controller, NODE, tmp_path / "gone") is None
    assert controller.asked == []
