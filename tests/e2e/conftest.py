"""A service per test, or one for all tests of a module that do no harm to it; on failure, all that there is to see."""

import contextlib
import os

import docker
import pytest

from tests.e2e import clients_image
from tests.e2e.harness import ServiceProcess, SilentRegistry
from tests.e2e.jenkins import AgentService, ControllerNetwork
from tests.e2e.registry import Registry


@pytest.fixture(scope="module")
def shared(tmp_path_factory, docker_host):
    process = ServiceProcess(tmp_path_factory.mktemp("service"), docker_host).start()
    yield process
    process.destroy()


@pytest.fixture
def service(shared, request):
    """The module's service, running."""
    if shared.process.poll() is not None:
        shared.start()
    yield shared
    _show_on_failure(request, shared)


@pytest.fixture
def service_with(tmp_path, docker_host, request):
    """Makes a service of the test's own, with settings such as `queue__slots=1`."""
    made = []

    def make(**settings):
        process = ServiceProcess(tmp_path, settings.pop("docker_host", docker_host), **settings)
        made.append(process)
        return process.start()

    yield make
    for process in made:
        _show_on_failure(request, process)
        process.destroy()


@pytest.fixture(scope="session")
def clients(docker_host):
    """An image with Docker's clients."""
    return clients_image.make(docker_host)


@pytest.fixture(scope="module")
def network(docker_host):
    """A simulated controller for the tests of a module, where agents reach it."""
    made = ControllerNetwork(docker_host)
    yield made
    made.close()


@pytest.fixture
def own_network(docker_host):
    """The same for one test."""
    made = ControllerNetwork(docker_host)
    yield made
    made.close()


@pytest.fixture
def jenkins(request):
    """The simulated controller: the module's, or the test's own if it makes services of its own."""
    own = "agents_with" in request.fixturenames
    return request.getfixturevalue("own_network" if own else "network").simulator


@pytest.fixture(scope="module")
def shared_agents(tmp_path_factory, docker_host, network, java):
    made = AgentService(tmp_path_factory.mktemp("service"), docker_host, network, java).start()
    yield made.trained()
    made.destroy()


@pytest.fixture
def agents(shared_agents, request):
    """The module's service with a controller, running and trained."""
    yield shared_agents
    _show_on_failure(request, shared_agents)


@pytest.fixture
def agents_with(tmp_path, docker_host, own_network, java, request):
    """Makes a service with a controller of the test's own; `config` is the text of a settings file."""
    made = []

    def make(*, start=True, **settings):
        process = AgentService(tmp_path / f"service-{len(made)}", docker_host, own_network, java, **settings)
        made.append(process)
        return process.start() if start else process

    yield make
    for process in made:
        _show_on_failure(request, process)
        process.destroy()


@pytest.fixture
def silent_registry():
    registry = SilentRegistry()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """A real registry for the tests of a module, where everybody may push and pull."""
    with Registry(tmp_path_factory.mktemp("registry")) as made:
        yield made


@pytest.fixture
def registry_with(tmp_path):
    """Makes a registry of the test's own: `registry_with(users=("ci",))`."""
    with contextlib.ExitStack() as stack:
        made = []

        def make(**options):
            made.append(stack.enter_context(Registry(tmp_path / f"registry-{len(made)}", **options)))
            return made[-1]

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    setattr(item, f"report_{report.when}", report)
    return report


def _show_on_failure(request, process):
    report = getattr(request.node, "report_call", None)
    if report is None or not report.failed or os.environ.get("SIBLING_TEST_QUIET"):
        return
    print(f"--- the service's log\n{process.log.read_text()[-8000:]}")
    for container in process.containers():
        with contextlib.suppress(docker.errors.APIError):  # it may go while we look
            print(f"--- {container.name}: {container.attrs['State']}\n{container.logs(tail=20)!r}")
