"""`sibling image build`: send the context, follow the build, and bring back what it made."""

from __future__ import annotations

from api.client.attended import attend
from api.client.command import NOT_RUN, Parser, perform
from api.client.errors import ClientError
from api.client.image_context import context_of
from api.client.image_request import PROGRESS, add_options, mode_of, request_of, signed_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from api.client.attended import Attended
    from api.client.connection import Connection
    from api.client.image_output import Output
    from api.client.terminal import Screen

_DESCRIPTION = """\
Build an image on the host's warm cache, without a Docker socket. Options are
those of `docker buildx build`. In a container of Sibling's nothing is uploaded
from below the workspace; any other folder is, after its .dockerignore. Progress
goes to standard error, results to standard output. Exits with 0; 1 if the build
failed, 124 if it ran into its timeout, 125 if it could not be run, 130 if it was
cancelled. Ctrl-C cancels the build and waits for its end; a second one leaves
at once."""
_EXAMPLES = """\
  sibling image build -t registry.example/team/app:$BUILD_NUMBER --push .
  sibling image build -f docker/Dockerfile --build-arg VERSION=1.2 --target test --secret id=npm,src=.npmrc .
  sibling image build -q --iidfile id https://git.example/app.git#v1:docker
  sibling image build --output type=tar,dest=root.tar - < Dockerfile
"""


def main(argv: Sequence[str]) -> int:
    """Run `sibling image build`; the exit code."""
    return perform(_build, _parser().parse_args(argv), failed=NOT_RUN)


def _parser() -> Parser:
    parser = Parser("image build", _DESCRIPTION, _EXAMPLES, usage_error=NOT_RUN)
    add_options(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        metavar="SPEC",
        help="the file system instead of an image: type=tar,dest=FILE, type=local,dest=DIR, DIR, or - (stdout)",
    )
    group.add_argument("--progress", choices=PROGRESS, default="auto", help="default: tty on a terminal, else plain")
    group.add_argument("--iidfile", metavar="FILE", help="write the image's id to the file")
    group.add_argument("--metadata-file", metavar="FILE", help="write digest, id and names to the file, as JSON")
    only = group.add_mutually_exclusive_group()
    only.add_argument("-q", "--quiet", action="store_true", help="print the digest, or without a push the id, alone")
    only.add_argument("--json", action="store_true", help="print the build as JSON")
    return parser


def _build(options: argparse.Namespace, connection: Connection, screen: Screen) -> int:
    output = _output(options)
    context = context_of(options.path, options.file, connection.address)
    mode = "plain" if options.quiet else mode_of(options.progress, screen)
    request = {**request_of(options, context), "progress": "plain" if mode == "plain" else "json"}
    if output is not None:
        request["output"] = "tar"
    if options.iidfile or options.metadata_file:
        from api.client.image_output import prepare

        prepare(options.iidfile, options.metadata_file)

    def work(attended: Attended) -> int:
        whole = signed_in({**request, **context.sent(connection, screen)})
        build = attended.submit("/v1/images/builds", whole)
        from api.client.image_end import ImageEnd  # while the service is at work

        return ImageEnd(options, connection, screen, tty=mode == "tty", output=output).of(attended, build["id"])

    return attend(connection, screen, work)


def _output(options: argparse.Namespace) -> Output | None:
    if options.output is None:
        return None
    from api.client.image_output import output_of

    output = output_of(options.output)
    if options.push:
        raise ClientError("--output is instead of an image; there is nothing to push then.")
    if output.to_standard_output and (options.quiet or options.json):
        raise ClientError("Standard output takes the tar, or what -q and --json print, but not both.")
    return output
