"""A simulated controller with a job that waits, and every verb of JenkinsController with the request it begins with."""

from contextlib import contextmanager

from agent.jenkins_controller import JenkinsController
from tests.fakes.controller import Simulator

URL = "http://elsewhere.example/job/j/1/"
VERBS = {
    "info": ("GET /api/json", lambda controller: controller.info()),
    "queue": ("GET /queue/api/json", lambda controller: controller.queue()),
    "computers": ("GET /computer/api/json", lambda controller: controller.computers()),
    "create_node": (
        "POST /computer/doCreateItem",
        lambda controller: controller.create_node("new", description="", labels=(), remote_dir="/none"),
    ),
    "node_secret": ("GET /computer/n/jenkins-agent.jnlp", lambda controller: controller.node_secret("n")),
    "set_offline": ("POST /computer/n/changeOfflineCause", lambda controller: controller.set_offline("n", "x")),
    "set_online": ("GET /computer/n/api/json", lambda controller: controller.set_online("n")),
    "describe": ("POST /computer/n/submitDescription", lambda controller: controller.describe("n", "x")),
    "delete_node": ("POST /computer/n/doDelete", lambda controller: controller.delete_node("n")),
    "cancel_item": ("POST /queue/cancelItem", lambda controller: controller.cancel_item(1)),
    "run": ("GET /job/j/1/api/json", lambda controller: controller.run(URL)),
    "stop_run": ("POST /job/j/1/stop", lambda controller: controller.stop_run(URL)),
    "agent_jar": ("GET /jnlpJars/agent.jar", lambda controller: controller.agent_jar()),
}
READS = {name: verb for name, verb in VERBS.items() if verb[0].startswith("GET")}
WRITES = {name: verb for name, verb in VERBS.items() if verb[0].startswith("POST")}


@contextmanager
def simulated():
    """A controller with node `n`, job `j`, and its build waiting for that node as item 1."""
    with Simulator() as simulator:
        simulator.core.agent_jar = lambda: b"PK\3\4"  # so that it needs no Java
        simulator.add_node("n", "gpu")
        simulator.add_freestyle("j", "gpu", "make")
        simulator.build("j")
        yield simulator


def connect(simulator, **parts):
    """To the simulated controller with its first user's token, or with what `parts` say."""
    given = {"url": simulator.url, "user": simulator.user, "token": lambda: simulator.token, "timeout": 5} | parts
    return JenkinsController(given.pop("url"), **given)
