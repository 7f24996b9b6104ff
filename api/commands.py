"""The commands of the service's side: `serve`, `doctor`, `gate`, `token`. Only here does it meet Docker's engine."""

from __future__ import annotations

import asyncio
import gc
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from agent.errors import AgentError, InvalidSettings
from api import client

if TYPE_CHECKING:
    import uvicorn

    from agent.docker_engine import DockerEngine
    from agent.jenkins_controller import JenkinsController
    from agent.service import Service
    from agent.settings import Settings
    from agent.tokens import TokenFile, TokenVerifier

Config = Annotated[
    Path | None, typer.Option("--config", envvar="SIBLING_CONFIG", help="Settings file; docs/settings.md lists them.")
]

app = typer.Typer(
    help="A build agent service for Jenkins: every build in a fresh sibling container.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token = typer.Typer(help="Make, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token, name="token")


@app.command()
def serve(config: Config = None) -> None:
    """Run the service."""
    gc.disable()  # until it listens: nothing of what a start makes is garbage
    import uvloop

    from api.service_log import configure

    settings = _settings(config)
    configure(settings.log)
    uvloop.run(_serve(settings))


@app.command()
def doctor(config: Config = None) -> None:
    """Check everything that the service needs, and print the cure of what is wrong."""
    from agent.doctor import examine

    settings = _settings(config)
    findings = asyncio.run(examine(settings, lambda: _engine(settings), _controller(settings)))
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}")
        if not finding.ok and finding.cure:
            typer.echo(f"      cure: {finding.cure}")
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


@app.command()
def gate(
    policy: Annotated[Path, typer.Option(help="The policy file; docs/docker-access.md says what is in it.")],
    socket: Annotated[Path, typer.Option(help="Where to open the gate. A journal is kept beside it.")],
    build: Annotated[str, typer.Option(help="Whose it is; a label of all that is made through it.")],
    engine: Annotated[str, typer.Option(envvar="DOCKER_HOST", help="The engine's socket.")] = "/var/run/docker.sock",
) -> None:
    """Open a Docker socket that is safe to hand out, without the service; on TERM, remove what was made through it."""
    import uvloop

    from agent.gate.standalone import serve as serve_gate

    def note(refusal: str) -> None:
        typer.echo(refusal, err=True)

    def ready() -> None:
        typer.echo(f"the gate of build {build} is open at {socket}", err=True)

    uvloop.run(serve_gate(policy, socket, build, engine, note, ready))


async def _serve(settings: Settings) -> None:
    import uvicorn

    from agent.assembly import assemble
    from api.app import create_app
    from api.build_sockets import SocketServer
    from api.client_zipapp import zipapp

    engine, sockets = _engine(settings), SocketServer()
    try:
        service = await assemble(settings, engine, _controller(settings), client=zipapp(), socket_server=sockets)
        app = sockets.app = create_app(service, _tokens(settings, service))
        config = uvicorn.Config(
            app,
            host=settings.server.host,
            port=settings.server.port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Followers of logs that go on for hours must not hold up a restart; they reconnect.
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        await asyncio.gather(server.serve(), _announce(server))
    finally:
        await engine.close()


async def _announce(server: uvicorn.Server) -> None:
    """Say where it listens, once it does; with port 0 only the socket knows."""
    while not server.started and not server.should_exit:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    for listener in (listener for each in server.servers for listener in each.sockets):
        host, port = listener.getsockname()[:2]
        structlog.get_logger().info("listening", host=host, port=port)
    gc.freeze()
    gc.enable()


@token.command("create")
def token_create(
    name: Annotated[str, typer.Argument(help="Who will use it; the name that builds show.")],
    scope: Annotated[list[str], typer.Option(help="builds:read, builds:write or admin; may be given again.")],
    config: Config = None,
) -> None:
    """Make a token and print it. It is shown this once."""
    from agent.tokens import Scope

    known = {str(each): each for each in Scope}
    if unknown := [each for each in scope if each not in known]:
        raise typer.BadParameter(f"{', '.join(unknown)}: no such scope; there are {', '.join(known)}")
    typer.echo(_token_file(config).create(name, [known[each] for each in scope]))


@token.command("list")
def token_list(config: Config = None) -> None:
    """Show who has a token, and what it allows."""
    for each in _token_file(config).list():
        typer.echo(f"{each.id}  {each.name:<24} {' '.join(sorted(each.scopes))}")


@token.command("revoke")
def token_revoke(which: Annotated[str, typer.Argument(help="A token's id or name.")], config: Config = None) -> None:
    """Make a token useless from now on; a running service sees it at once."""
    _token_file(config).revoke(which)


def _settings(config: Path | None) -> Settings:
    from agent.settings import load_settings

    return load_settings(config)


def _engine(settings: Settings) -> DockerEngine:
    from agent.docker_engine import DockerEngine

    return DockerEngine(
        settings.engine.host,
        timeout=settings.engine.timeout,
        pull_timeout=settings.engine.pull_timeout,
        # A build has its output, and at times its stop or a wait beside it; the rest are pulls.
        stream_limit=2 * settings.queue.slots + 16,
    )


def _controller(settings: Settings) -> JenkinsController | None:
    jenkins = settings.jenkins
    if jenkins.url is None or jenkins.user is None or jenkins.token_file is None:
        return None
    from agent.jenkins_controller import JenkinsController
    from agent.settings.jenkins import read_token

    return JenkinsController(
        jenkins.url,
        user=jenkins.user,
        token=partial(read_token, jenkins.token_file),
        ca_file=jenkins.ca_file,
        timeout=jenkins.timeout,
    )


def _tokens(settings: Settings, service: Service) -> TokenVerifier:
    from agent.tokens import AdminToken, FirstOf, TokenFile, admin_token

    file = settings.auth.token_file
    own = AdminToken(admin_token(service.data_dir)) if file is None else TokenFile(file)
    return FirstOf(own, service.store.exchanges)


def _token_file(config: Path | None) -> TokenFile:
    from agent.tokens import TokenFile

    path = _settings(config).auth.token_file
    if path is None:
        raise InvalidSettings("no token file is set: give auth.token_file in the settings, or SIBLING_AUTH__TOKEN_FILE")
    return TokenFile(path)


def run() -> None:
    """Run the command that the process was given; an error of ours is one sentence, and exit code 2."""
    _show_client_commands()
    try:
        app()
    except AgentError as error:
        typer.echo(f"sibling: {error}", err=True)
        sys.exit(2)


def _show_client_commands() -> None:
    """In the help alone: `api.__main__` hands them to the client before this module is loaded."""
    for name, summary in client.COMMANDS.items():
        app.command(name, help=summary)(lambda: None)
