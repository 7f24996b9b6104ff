"""Where things are inside a container, and the shell text that more than one part of the toolkit needs there."""

from __future__ import annotations

TARGET = "/opt/sibling"
WORKSPACE = "/workspace"
HOME = "/tmp/home"  # noqa: S108 - the container's own
SHELL = (f"{TARGET}/bin/busybox", "sh")
AGENT_JAR = "agent.jar"  # of an agent toolkit, as the next one
ARCHIVE = "agent.jsa"
CLIENT = "sibling"  # of every toolkit

# A /bin/sh for images without one.
SHELL_SCRIPT = f"""\
#!{" ".join(SHELL)}
exec {" ".join(SHELL)} "$@"
""".encode()

# A home that the user can write to, whatever the image says.
USE_HOME = f"""\
if [ "${{HOME:-/}}" = / ] || [ ! -w "$HOME" ]; then
    export HOME={HOME}
    {TARGET}/bin/busybox mkdir -p "$HOME"
fi
"""
