"""What builds' logs say, in Jenkins' words."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .things import Build, Node, Step

CONNECTED = (
    b"Inbound agent connected from 127.0.0.1\nRemoting version: 3352.v17a_fb_4b_2773f\nLauncher: JNLPLauncher\n"
    b"Communication Protocol: WebSocket\nThis is a Unix agent\nAgent successfully connected and online\n"
)
BROKEN = "FATAL: command execution failed\njava.nio.channels.ClosedChannelException\n"
LOST_STEP = "wrapper script does not seem to be touching the log file\n"
PIPELINE_START = "[Pipeline] Start of Pipeline\n[Pipeline] node\n"


def noted(name: str) -> str:
    """A name as the log holds it: with a note before it that only Jenkins' own pages can read."""
    return f"\x1b[8mha:////{base64.b64encode(name.encode()).decode()}\x1b[0m{name}"


def beginning(node: Node, workspace: str) -> str:
    label = f" ({node.label_text})" if node.label_text else ""
    return f"Running as SYSTEM\nBuilding remotely on {noted(node.name)}{label} in workspace {workspace}\n"


def announcement(build: Build, step: Step | None) -> str:
    if step is None:
        return ""
    if build.job.kind == "pipeline":
        return f"[Pipeline] {'writeFile' if step.file else 'sh'}\n"
    return "" if step.file else f"[{build.job.short_name}] $ /bin/sh -xe /tmp/jenkins{build.queue_id:019}.sh\n"


def waits_for(node: Node) -> str:
    channel = f'Channel "hudson.remoting.Channel@{id(node):x}:{node.name}"'
    what = f"{channel}: Remote call on {node.name} failed. The channel is closing down or has closed down"
    return (
        f"{node.name} seems to be removed or offline (hudson.remoting.ChannelClosedException: {what});"
        " will wait for 5 min 0 sec for it to come back online\n"
    )


def resuming(node: str, now: str) -> str:
    waiting = f"Waiting for reconnection of {node} before proceeding with build\n"
    return f"Resuming build at {now} after Jenkins restart\n{waiting}"


def failure(build: Build, code: int) -> str:
    if build.job.kind == "pipeline":
        return f"ERROR: script returned exit code {code}\n"
    return "Build step 'Execute shell' marked build as failure\n"


def cancelled() -> str:
    return f"Queue task was cancelled\norg.jenkinsci.plugins.workflow.actions.ErrorAction$ErrorId: {uuid.uuid4()}\n"


def ending(build: Build, result: str, because: str) -> str:
    words = ""
    if build.job.kind == "pipeline":
        words += "[Pipeline] }\n" if build.on else ""
        words += "[Pipeline] // node\n[Pipeline] End of Pipeline\n"
    elif build.aborted_by:
        words += f"Build was aborted\nAborted by {build.aborted_by}\n"
    return f"{words}{because}Finished: {result}\n"
