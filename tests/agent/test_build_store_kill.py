"""A service that is killed at any moment has lost nothing of what it answered."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from agent.build_store import BuildStore
from agent.builds import Outcome, Result
from tests.agent.store_steps import KEY, LEASE

ROOT = Path(__file__).parents[2]
KILLED = """
import sys, threading
from pathlib import Path
from agent.build_store import BuildStore
from agent.builds import Outcome, Result
from agent.requests import BuildRequest

store = BuildStore(Path(sys.argv[1]), sys.argv[2].encode())

def tell(*words):
    sys.stdout.write(" ".join(words) + "\\n")
    sys.stdout.flush()

def submit():
    while True:
        request = BuildRequest(image="i", commands=["make"], secrets={"A": "s"})
        tell("accepted", store.submit(request, "ci", max_queued=10**6)[0].id)

def work():
    while True:
        if held := store.claim("one", 1e12, lambda _: True):
            tell("claimed", held.id)
            store.finish(held, Outcome(result=Result.SUCCESS), phases={}, artifacts=())
            tell("finished", held.id)

for target in (submit, submit, work):
    threading.Thread(target=target).start()
"""


def test_what_was_answered_before_a_kill_is_there_after_it(path):
    told = {"accepted": set(), "claimed": set(), "finished": set()}
    for lines in (1, 40, 173):
        command = [sys.executable, "-c", KILLED, str(path), KEY.decode()]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(lines):
                word, build_id = process.stdout.readline().split()
                told[word].add(build_id)
            os.kill(process.pid, signal.SIGKILL)
            # What it said after our last line counts as well, but for a line that the kill cut off.
            for line in process.stdout.read().splitlines(keepends=True):
                if line.endswith("\n"):
                    word, build_id = line.split()
                    told[word].add(build_id)
        store = BuildStore(path, KEY)  # the kernel let go of the dead one's lock
        builds = {build.id: build for build in store.list(limit=10**6)}
        assert told["accepted"] <= builds.keys()
        assert all(builds[build_id].outcome == Outcome(result=Result.SUCCESS) for build_id in told["finished"])
        held = {build.id for build in store.running()}
        assert told["claimed"] <= held | {build.id for build in builds.values() if build.outcome}
        assert {build.id for build in store.adopt("one", LEASE)} == held
        assert all(store.secrets(build_id) == ({} if builds[build_id].outcome else {"A": "s"}) for build_id in builds)
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
        store.close()
    assert all(told.values())
