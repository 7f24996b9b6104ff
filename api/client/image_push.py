"""`sibling image push`: images that the caller built before, to their registries."""

from __future__ import annotations

from api.client.attended import attend
from api.client.command import NOT_RUN, Parser, perform

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from api.client.attended import Attended
    from api.client.connection import Connection
    from api.client.terminal import Screen

_DESCRIPTION = """\
Push images that were built before under the same identity, by the names that
`sibling image build -t` gave them. Exit codes are those of `sibling image build`."""
_EXAMPLES = """\
  sibling image push registry.example/team/app:1.2 registry.example/team/app:latest
  sibling image push -q registry.example/team/app:1.2
"""


def main(argv: Sequence[str]) -> int:
    """Run `sibling image push`; the exit code."""
    parser = Parser("image push", _DESCRIPTION, _EXAMPLES, usage_error=NOT_RUN)
    parser.add_argument("images", metavar="NAME", nargs="+", help="name of an image, with its registry")
    parser.add_argument("--metadata-file", metavar="FILE", help="write digests and names to the file, as JSON")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("-q", "--quiet", action="store_true", help="print the digests alone")
    only.add_argument("--json", action="store_true", help="print the push as JSON")
    parser.set_defaults(iidfile=None)
    return perform(_push, parser.parse_args(argv), failed=NOT_RUN)


def _push(options: argparse.Namespace, connection: Connection, screen: Screen) -> int:
    if options.metadata_file:
        from api.client.image_output import prepare

        prepare(options.metadata_file)

    def work(attended: Attended) -> int:
        build = attended.submit("/v1/images/pushes", {"images": options.images})
        from api.client.image_end import ImageEnd  # while the service is at work

        return ImageEnd(options, connection, screen).of(attended, build["id"])

    return attend(connection, screen, work)
