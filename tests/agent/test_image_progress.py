"""BuildKit's messages as a log for people and as a record; secrets are masked in both."""

import base64
import json

from agent.builds import BaseImage, ImageStep
from agent.images.progress import Masked, Messages, Progress

AT = "2026-11-27T05:16:50.{:09}Z"


def vertex(digest, name, start=None, end=None, **more):
    times = {"started": start, "completed": end}
    told = {key: AT.format(value) for key, value in times.items() if value is not None}
    return {"digest": digest, "name": name} | told | more


def log(digest, data, at=900_000_000):
    return {"vertex": digest, "data": base64.b64encode(data).decode(), "timestamp": AT.format(at)}


def told(*messages):
    progress = Progress()
    return progress, b"".join(progress.take(message) for message in messages).decode(errors="surrogateescape")


def test_messages_on_one_line_or_on_many_are_read_and_the_rest_is_kept():
    message = {"vertexes": [vertex("d", "} {")]}
    text = json.dumps(message, indent=2) + "\n" + json.dumps(message) + "\nERROR: failed\n"
    messages = Messages()
    found = [each for line in text.encode().splitlines(keepends=True) if (each := messages.feed(line))]
    assert found == [message, message]
    assert messages.rest == ["ERROR: failed"]


def test_of_much_that_is_no_message_the_end_is_kept():
    messages = Messages()
    for number in range(1000):
        assert messages.feed(f"{number}\n".encode()) is None
    assert (len(messages.rest), messages.rest[-1]) == (50, "999")


def test_steps_are_numbered_as_they_begin_and_end_with_their_time():
    _, text = told(
        {"vertexes": [vertex("b", "[2/2] RUN true"), vertex("a", "[1/2] FROM x", 0)]},
        {"vertexes": [vertex("a", "[1/2] FROM x", 0, 1, cached=True)]},
        {"vertexes": [vertex("b", "[2/2] RUN true", 100_000_000)]},
        {"logs": [log("b", b"one\ntwo")]},
        {"logs": [log("b", b" and more\nprogress 1%\rprogress 99%\rdone\n")]},
        {"vertexes": [vertex("b", "[2/2] RUN true", 100_000_000, 950_000_000)]},
    )
    assert text.splitlines() == [
        *("", "#1 [1/2] FROM x", "#1 CACHED", "", "#2 [2/2] RUN true"),
        *("#2 0.800 one", "#2 0.800 two and more", "#2 0.800 done", "#2 DONE 0.8s"),
    ]


def test_what_failed_or_was_cancelled_is_told_with_the_last_of_its_output():
    _, text = told(
        {"vertexes": [vertex("a", "RUN a", 0), vertex("b", "RUN b", 0)]},
        {"logs": [log("a", b"no end of line")]},
        {"vertexes": [vertex("a", "RUN a", 0, 1, error="exit code: 1")]},
        {"vertexes": [vertex("b", "RUN b", 0, 1, error="Canceled: context canceled")]},
    )
    assert text.endswith("#1 0.900 no end of line\n#1 ERROR: exit code: 1\n#2 CANCELED\n")


def test_the_record_has_steps_and_bases_but_not_buildkits_own():
    digest = f"sha256:{'0' * 64}"
    progress, _ = told(
        {"vertexes": [vertex("m", "[internal] load metadata for docker.io/library/alpine:3", 0, 1)]},
        {"vertexes": [vertex("f", f"[a 1/2] FROM docker.io/library/alpine:3@{digest}", 1, 2)]},
        {"vertexes": [vertex("s", "[b 1/1] FROM scratch", 1, 2), vertex("n", "[b 2/2] FROM local:1", 2, 3)]},
        {"vertexes": [vertex("r", "[a 2/2] RUN make", 4, 1_000_004, cached=True)]},
        {"vertexes": [vertex("never", "[c 1/1] RUN never")]},
    )
    assert progress.bases() == (
        BaseImage(reference="docker.io/library/alpine:3", digest=digest),
        BaseImage(reference="docker.io/library/local:1", digest=None),
    )
    assert [step.name.partition("] ")[2] for step in progress.steps()] == [
        f"FROM docker.io/library/alpine:3@{digest}",
        "FROM scratch",
        "FROM local:1",
        "RUN make",
    ]
    assert progress.steps()[-1] == ImageStep(name="[a 2/2] RUN make", cached=True, seconds=0.001)


def test_a_transfer_is_told_once_when_it_is_over():
    transfer = {"id": "transferring context:", "vertex": "c", "current": 52_440_000}
    over = transfer | {"started": AT.format(0), "completed": AT.format(400_000_000)}
    _, text = told(
        {"vertexes": [vertex("c", "[internal] load build context", 0)]},
        {"statuses": [transfer]},
        {"statuses": [over]},
        {"statuses": [over]},
    )
    assert text == "\n#1 [internal] load build context\n#1 transferring context 52.4MB 0.4s done\n"


def test_a_secret_is_masked_in_messages_however_it_is_cut():
    masked = Masked(["hunter2"])
    first = masked.of({"logs": [log("a", b"the hun")]})
    second = masked.of({"logs": [log("a", b"ter2 is out, hunt")]})
    last = masked.of({"vertexes": [vertex("a", "RUN a", 0, 1)]})
    data = b"".join(base64.b64decode(each["data"]) for part in (first, second, last) for each in part["logs"])
    assert data == b"the **** is out, hunt"


def test_what_is_no_text_or_of_no_known_step_does_no_harm():
    _, text = told(
        {"logs": [log("unknown", b"x")], "statuses": [{"id": "x", "vertex": "unknown", "completed": AT.format(1)}]},
        {"vertexes": [vertex("a", "RUN \udcff", 0)]},
        {"warnings": [{"short": base64.b64encode(b"careful").decode()}]},
        {},
    )
    assert text.endswith("WARNING: careful\n")
