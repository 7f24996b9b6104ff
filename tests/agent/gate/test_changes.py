"""What changes of an image may come to when variables are put in; what the engine makes of them is in test_images."""

import pytest

from agent.gate import changes
from agent.gate.policy import Refused

PATH = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_ordinary_ones_are_short():
    added = [f"ENV PATH=$PATH:/opt/{number}/bin" for number in range(50)]
    changes.see_short(["CMD echo $HOME", "LABEL of=${A:-x}", "ONBUILD RUN make\nUSER me", *added], PATH)


@pytest.mark.parametrize(
    "hostile",
    [
        [f"ENV a0={'x' * 200}", *(f"ENV a{n + 1}={f'$a{n}' * 10}" for n in range(5))],
        [f"ENV a0={'x' * 200}", "ENV k=a", *(f"ENV ${{k}}{n + 1}={f'$a{n}' * 10}" for n in range(5))],
        [f"ENV a={'x' * 1000}", f"LABEL b=${{a//x/{'y' * 200}}}"],
        [f"ENV a={'x' * 1000}", f"ENV b={'y' * 1000}", "LABEL c=${a//x/$b}"],
        [f"ENV a={'x' * 20000}", "LABEL b=$a$a$a$a"],
        [f"ENV a={'x' * 20000}", *["LABEL b=$a"] * 4],
    ],
    ids=["doubled", "named by variables", "replaced", "replaced by a variable", "one line", "many lines"],
)
def test_none_grow_by_their_variables(hostile):
    with pytest.raises(Refused, match="with its variables"):
        changes.see_short(hostile, ())


def test_what_was_set_before_counts():
    with pytest.raises(Refused, match="with its variables"):
        changes.see_short(["LABEL b=$a$a$a$a"], [f"a={'x' * 20000}"])


@pytest.mark.parametrize("several", [["ENV a=$b\\\n$b"], ["ENV a=$b\\", "$b"], ["# escape=`\nENV a=1 ` \n b=2"]])
def test_an_instruction_is_one_line(several):
    with pytest.raises(Refused, match="write it in one"):
        changes.see_short(several, ())
