"""What goes wrong on the way, scripted by data, and the record of all that was asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """For requests whose "METHOD /path?query" contains a match of `match`, so many `times` (None: until removed).

    `delay` seconds pass first. `drop` cuts the connection, `status` answers in the controller's stead. With `after`
    what was asked for is done all the same, and only its answer is lost. An agent's handshake can only be refused; it
    is a "CONNECT /wsagents/NODE".
    """

    match: str
    times: int | None = 1
    status: int | None = None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False
    after: bool = False
    hits: int = 0


class Faults:
    """Used under the simulator's lock."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, match: str, **how: object) -> Fault:
        """See Fault for `how`."""
        fault = Fault(match, **how)  # type: ignore[arg-type]
        re.compile(match)
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        self._faults = [other for other in self._faults if other is not fault]

    def clear(self) -> None:
        self._faults = []

    def take(self, request: str) -> Fault | None:
        """The first that applies, which is then used up by one."""
        for fault in self._faults:
            if (fault.times is None or fault.hits < fault.times) and re.search(fault.match, request):
                fault.hits += 1
                return fault
        return None


@dataclass
class Request:
    """One request as it arrived; `status` is None while it is not answered, or if its connection was cut."""

    method: str
    path: str  # with its query, as it was sent
    user: str
    at: float
    headers: dict[str, str]
    status: int | None = None

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"
