"""A simulated controller alone, with two jobs to try: `python -m tests.fakes.controller --port 8080`."""

from __future__ import annotations

import argparse
import signal

from .simulator import Simulator


def main() -> None:
    options = _options()
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)  # before there are threads, so that only `sigwait` hears them
    simulator = Simulator(
        user=options.user, token=options.token, host=options.host, port=options.port, public_url=options.url
    )
    simulator.add_freestyle("hello", options.label, 'echo "Hello from $NODE_NAME"; cat /etc/os-release; pwd')
    simulator.add_pipeline("pipeline", options.label, ["echo built > result.txt", "cat result.txt"])
    with simulator:
        print(simulator.url, flush=True)
        signal.sigwait(stop)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.controller", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="a free one by default")
    parser.add_argument("--url", help="how others reach it, if not by 127.0.0.1 and the port")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--token", help="its API token; made up if it is not given")
    parser.add_argument("--label", default="image=busybox:latest", help="what the demo jobs ask for")
    return parser.parse_args()


if __name__ == "__main__":
    main()
