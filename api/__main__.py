"""The `sibling` program. The client's commands start without anything of the service, which takes longer to load."""

import sys

from api import client


def main() -> None:
    """Run the command that the process was given."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in client.COMMANDS:
        sys.exit(client.main(arguments))
    from api import commands

    commands.run()


if __name__ == "__main__":
    main()
