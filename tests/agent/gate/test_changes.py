"""What changes of an image may come to when variables are put in; what the engine makes of them is in test_images."""

import pytest

from agent.gate import changes
from agent.gate.policy import Refused

PATH = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]


def test_ordinary_ones_are_short():
    added = [f"ENV PATH=$PATH:/opt/{number}/bin" for number in range(50)]
    others = [
        "CMD echo ${A//x/y} $@ $(id)",
        'ENTRYPOINT ["sh", "-c", "$0"]',
        "ONBUILD RUN a=$((1 + 1))",
        "USER me\nWORKDIR /a",
    ]
    changes.see_cheap(
        ["LABEL of=${A:-x} is=\\$B", "ENV A=\"a b\" B='$A'", "EXPOSE 80 8000-8009 53/udp", *others, *added], PATH
    )


@pytest.mark.parametrize(
    "hostile",
    [
        [f"ENV a0={'x' * 200}", *(f"ENV a{n + 1}={f'$a{n}' * 10}" for n in range(5))],
        [f"ENV a0={'x' * 200}", "ENV k=a", *(f"ENV ${{k}}{n + 1}={f'$a{n}' * 10}" for n in range(5))],
        [f"ENV a={'x' * 20000}", "LABEL b=$a$a$a$a"],
        [f"ENV a={'x' * 20000}", *["LABEL b=$a"] * 4],
    ],
    ids=["doubled", "named by variables", "one line", "many lines"],
)
def test_none_grow_by_their_variables(hostile):
    with pytest.raises(Refused, match="with its variables"):
        changes.see_cheap(hostile, ())


@pytest.mark.parametrize(
    "line",
    [
        *(
            "LABEL b=${a//x/yy}",
            "LABEL b=${a/x/$a}",
            "ENV b=${@//x/y}",
            "ENV b=$@",
            "ENV b=${a:-$a}",
            "ENV b=${a:+${a}}",
        ),
        *("ENV b=${a#x}", "ENV b=${a%x}", "ENV b=${a", "ENV b=$", "ENV b=$1", "ENV b=${a:?x}", "LABEL b=${a:-\\}/x/y}"),
    ],
)
def test_variables_are_plain(line):
    with pytest.raises(Refused, match="variables are taken as"):
        changes.see_cheap([line], ())


@pytest.mark.parametrize("line", ["# escape=`", "  # x", "\ufeff# escape=`", "USER a\n#x"])
def test_nothing_says_what_a_backslash_means(line):
    with pytest.raises(Refused, match="a comment"):
        changes.see_cheap([line], ())


@pytest.mark.parametrize(
    "lines",
    [
        ["EXPOSE 1-65535"],
        ["EXPOSE 1-600", "expose 601-1200/udp"],
        ["EXPOSE $a"],
        ["\ufeffEXPOSE 1-65535"],
        ["EXPOSE 127.0.0.1:1-65535:1-65535"],
        ["EXPOSE " + "80 " * 1001],
    ],
)
def test_ports_are_few(lines):
    with pytest.raises(Refused, match="EXPOSE"):
        changes.see_cheap(lines, ())


def test_many_words_do_not_meet_many_variables():
    words = " ".join(f"{number}=" for number in range(1000))
    with pytest.raises(Refused, match="too many at once"):
        changes.see_cheap([f"LABEL {words}"], [f"A{number}=" for number in range(30_000)])
    changes.see_cheap([f"LABEL {words[:500]}"], [f"A{number}=" for number in range(1000)])


def test_what_was_set_before_counts():
    with pytest.raises(Refused, match="with its variables"):
        changes.see_cheap(["LABEL b=$a$a$a$a"], [f"a={'x' * 20000}"])


@pytest.mark.parametrize("several", [["ENV a=$b\\\n$b"], ["ENV a=$b\\", "$b"], ["ENV a=1 ` \n b=2"]])
def test_an_instruction_is_one_line(several):
    with pytest.raises(Refused, match="write it in one"):
        changes.see_cheap(several, ())
