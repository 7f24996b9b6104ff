"""Opens as many gates as asked in one process, as a service has them: `many_gates.py HOST FOLDER COUNT`."""

import asyncio
import sys
from pathlib import Path

from agent.gate.gate import Gate
from agent.gate.journal import Journal
from agent.gate.policy import GatePolicy
from agent.gate.upstream import Upstream
from agent.unix_socket import listen


async def main(host: str, folder: Path, count: int) -> None:
    gates = [
        Gate(
            build=f"many-{number}",
            policy=GatePolicy(images=("sibling-test/*",)),
            upstream=Upstream.at(host),
            journal=Journal(folder / f"{number}.journal"),
        )
        for number in range(count)
    ]
    for number, gate in enumerate(gates):
        await gate.open(listen(folder / f"{number}.sock", 0o600))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for gate in gates:
        await gate.close()


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
