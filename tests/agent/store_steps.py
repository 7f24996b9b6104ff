"""The steps that the build store's tests are made of."""

import threading
from concurrent.futures import ThreadPoolExecutor

from cryptography.fernet import Fernet

from agent.builds import Outcome, Result
from agent.requests import BuildRequest

KEY = Fernet.generate_key()
SUCCESS = Outcome(result=Result.SUCCESS, exit_code=0)
SECRET = "correct-horse-battery-staple-93417"
LEASE = 10_000.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def request(**parts):
    return BuildRequest(image="busybox", commands=["make"], **parts)


def submit(store, **parts):
    return store.submit(request(**parts), "ci", max_queued=1000)[0]


def claim(store, owner="one", lease_until=LEASE):
    claimed = store.claim(owner, lease_until, lambda _: True)
    assert claimed is not None
    return claimed


def finish(store, held, outcome=SUCCESS):
    return store.finish(held, outcome, phases={}, artifacts=())


def in_threads(count, function):
    """What `count` threads that begin together return."""
    together = threading.Barrier(count)

    def begin(number):
        together.wait()
        return function(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))
