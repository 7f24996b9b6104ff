"""The client commands of `sibling`, for people and pipelines; standard library only, Python 3.9 or newer.

It also runs alone, as the single file that `GET /cli/sibling` serves. Reading order:

    command      one command's parser and what all commands share: --url, --token-file, --id-token-file
    run          `sibling run`: upload, submit, follow, fetch, exit code
    attended     a build that somebody waits for: submit, follow, cancel on signals; also of images
    request      the options of `run` -> the request that is posted
    upload       a folder -> a tar stream;  ignore: what .siblingignore leaves out
    logs         `sibling logs`;  log_stream: following a log by byte offset
    timed_log    the same as lines with their times;  events: server-sent events
    artifacts    what a build left -> a local folder, and nowhere else
    builds       `sibling ps`, `show`, `cancel`;  listing: page by page
    image        `sibling image`: image_build, image_push, image_list
    image_request   the options of `image build` -> the request;  provenance: labels that tell where an image is from
    image_context   PATH and --file;  dockerignore: what .dockerignore leaves out of the upload
    image_output    --output and the files with its id and metadata;  unpack: a tar -> a local folder, and nowhere else
    image_end       from the submission to the exit code;  image_result: how it ended, for people and programs
    progress     the steps on a terminal;  steps: BuildKit's messages -> steps
    outcome      a finished build -> its summary line and the exit code;  waiting: the status line before its first byte
    id_token     a build's id token -> a token, exchanged once and kept
    connection   HTTP to the service: streams, retries;  outage: when to try again;  address: its URL
    bare         what is not loaded in a build's own container
    errors       every error, as a sentence for people
    signals      what Ctrl-C does;  terminal: notices, status line, tables, colours;  times: clocks and durations

The start of `sibling` is part of every build's time. So modules are imported where they are needed, those that follow a
build once it is submitted; and `typing` only where it is more than for type checkers, who take `TYPE_CHECKING = False`
for true (mypy, "Python runtime issues").
"""

from __future__ import annotations

import sys
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "run": "run a build and follow its log; exits with the build's exit code",
    "logs": "show or follow a build's log",
    "cancel": "cancel builds",
    "ps": "list builds",
    "show": "show one build",
    "image": "build, push and list images",
}
# Imported only when asked for.
_MODULES = {
    "run": "run",
    "logs": "logs",
    "cancel": "builds",
    "ps": "builds",
    "show": "builds",
    "image": "image",
}
USAGE_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str]) -> int:
    """Run the command that `argv[0]` names with the rest of `argv`; the exit code of the program.

    Raises SystemExit, as argparse does, for --help (0) and for a wrong command line (2; 125 from `run`).
    """
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(overview())
        return 0 if argv else USAGE_ERROR
    if argv[0] not in COMMANDS:
        sys.stderr.write(f"[sibling] There is no command {argv[0]!r}. Commands: {', '.join(COMMANDS)}.\n")
        return USAGE_ERROR
    try:
        module = import_module(f"api.client.{_MODULES[argv[0]]}")
        code: int = module.COMMANDS[argv[0]](argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def overview() -> str:
    """What `sibling --help` says of the client commands."""
    commands = "".join(f"  {name:<8}{summary}\n" for name, summary in COMMANDS.items())
    return f"usage: sibling COMMAND ...\n\ncommands:\n{commands}\n`sibling COMMAND --help` says more.\n"
