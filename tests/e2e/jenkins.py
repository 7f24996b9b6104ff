"""A simulated controller on a network of the engine, as Jenkins in a container is, and services that work for it."""

import contextlib
import secrets

import docker

from tests.conftest import BUSYBOX
from tests.e2e.harness import ServiceProcess, until
from tests.fakes.controller import Simulator
from tests.fakes.controller.simulator import NETNS_PORT

BUSYBOX_LABEL = f"image={BUSYBOX}"


class ControllerNetwork:
    """A network with an idle container, in whose namespace a simulator listens: agents reach it, others do not."""

    def __init__(self, docker_host):
        self.name = f"jenkins-test-{secrets.token_hex(4)}"
        self.docker = docker.DockerClient(base_url=docker_host, version="1.45")
        self.network = self.docker.networks.create(self.name)
        self.container = self.docker.containers.run(
            BUSYBOX, ["sleep", "100000"], detach=True, network=self.name, name=self.name, init=True
        )
        self.container.reload()
        address = self.container.attrs["NetworkSettings"]["Networks"][self.name]["IPAddress"]
        self.simulator = Simulator(
            netns_pid=self.container.attrs["State"]["Pid"], public_url=f"http://{address}:{NETNS_PORT}/"
        )
        self.simulator.start()

    def close(self):
        self.simulator.close()
        self.container.remove(force=True)
        for each in self.docker.containers.list(all=True, filters={"network": self.name}):
            with contextlib.suppress(docker.errors.APIError):
                each.remove(force=True)
        until(self._removed, what="the removal of the controller's network")
        self.docker.close()

    def _removed(self):
        try:
            self.network.remove()
        except docker.errors.NotFound:
            return True
        except docker.errors.APIError:  # a container is still on its way out of it
            return False
        return True


class AgentService(ServiceProcess):
    """A service that works for a simulated controller."""

    def __init__(self, folder, docker_host, network, java, *, user=None, token=None, **settings):
        self.simulator = network.simulator
        folder.mkdir(exist_ok=True)
        token_file = folder / "jenkins-token"
        token_file.write_text(token or network.simulator.token)
        super().__init__(
            folder,
            docker_host,
            jenkins__url=network.simulator.url,
            jenkins__user=user or network.simulator.user,
            jenkins__token_file=token_file,
            jenkins__network=network.name,
            jenkins__java=java,
            **settings,
        )

    def agents(self, state=None):
        """All agents' builds, oldest first."""
        listed = self.client.get("/v1/builds", params={"limit": 200}).raise_for_status().json()["builds"]
        agents = [build for build in listed if build["agent"] is not None]
        return [build for build in reversed(agents) if state is None or build["state"] == state]

    def agent_of(self, job):
        """The finished build of the agent that ran a job such as `hello #1`."""
        return until(
            lambda: next(
                (
                    build
                    for build in self.agents("finished")
                    if build["agent"]["job"] and build["agent"]["job"]["name"] == job
                ),
                None,
            ),
            what=f"the end of the agent of {job}",
        )

    @property
    def node(self):
        """The name of the registration node."""
        return self.client.get("/v1/status").raise_for_status().json()["controller"]["node"]

    def checks(self):
        """What /readyz says is wrong, by name."""
        checks = self.client.get("/readyz").json()["checks"]
        return {check["name"]: check["reason"] for check in checks if not check["ok"]}

    def equipped(self):
        """Once agents could be started."""
        until(lambda: any((self.data / "toolkit").glob("*/agent.jar")), 60, "the agents' toolkit")
        return self

    def trained(self):
        """Once the agent program was tried out and the registration node is online: nothing more happens by itself."""
        until(lambda: any((self.data / "toolkit").glob("*/agent.jsa")), 60, "the archive of the agent's classes")
        until(
            lambda: [n for n in self.simulator.nodes.values() if n.agent and n.name == self.node], 60, "the node online"
        )
        return self

    def assert_no_agent_left(self):
        """Neither a container, nor a node, nor a workspace of an agent."""
        self_made = {"registration", "training"}
        until(
            lambda: not [c for c in self.containers() if c.labels.get("sibling.role") not in self_made],
            what="the removal of all agents' containers",
        )
        failed = {build["agent"]["node"] for build in self.agents() if build["result"] in {"FAILURE", "NOT_BUILT"}}
        until(
            # The registration node's name may begin as an agent's does, by chance.
            lambda: (
                not [
                    name
                    for name in self.simulator.nodes
                    if name.startswith("sibling-01") and name not in failed and name != self.node
                ]
            ),
            what="the removal of all agents' nodes",
        )
        until(lambda: not list((self.data / "workspaces").iterdir()), what="the removal of all workspaces")
