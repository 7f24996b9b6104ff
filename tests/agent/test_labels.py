"""A label expression means to us what it means to Jenkins, and an image label asks for exactly what it says."""

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest
from agent.labels import MAX_DEPTH, Atom, Chain, ImageLabel, Not, parse, parse_assigned, parse_image, parse_name

DIGEST = "sha256:" + "a" * 64

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    st.sampled_from("ab->&|!()\"'\\ \t\r\n=:/,<\u2018\u2019;."), max_size=12
)
EXPRESSIONS = st.recursive(
    NAMES.map(Atom),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Chain, st.sampled_from(["&&", "||", "<->"]), st.lists(inner, min_size=2, max_size=4).map(tuple))
        | st.builds(Chain, st.just("->"), st.tuples(inner, inner))
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("!a", "b", True),
        ("!a&&b", "b", True),
        ("!(a&&b)", "a", True),
        ("a&&b", "a", False),
        ("a && b", "a b", True),
        ("\ta\t||  b ", "b", True),
        ("a||b&&c", "a", True),  # a || (b && c)
        ("a&&b||c", "c", True),  # (a && b) || c
        ("a->b", "", True),
        ("a->b", "a", False),
        ("a||b->c", "b", False),  # (a || b) -> c
        ("a<->b", "", True),
        ("a<->b", "a", False),
        ("a->b<->c", "a", True),  # (a -> b) <-> c, both false
        ("a<->b<->c", "c", True),  # (a <-> b) <-> c
        ("a<->b<->c", "a", True),
        ("a<->b<->c", "a b", False),
        ("a-b", "a-b", True),
        ("a--", "a--", True),
        ("a-->b", "a- b", True),  # a- -> b
        ("-", "-", True),
        ("image=r.example:5000/a/b:1.0@" + DIGEST, "image=r.example:5000/a/b:1.0@" + DIGEST, True),
        ("ä&&é", "ä é", True),
        ("a\nb", "a\nb", True),
    ],
)
def test_an_expression_matches_as_in_jenkins(text, labels, matches):
    assert parse(text).matches(labels.split(" ")) is matches


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"with space"', "with space"),
        ('"a&&b"', "a&&b"),
        (r'"a\"b\\c\nd\te"', 'a"b\\c\nd\te'),
        (r'"it\'s"', "it's"),
        ('"it\'s"', "it's"),
        ('""', ""),
        ('("image=a:1")', "image=a:1"),
    ],
)
def test_an_atom_in_quotes_may_hold_anything(text, name):
    assert parse(text) == Atom(name)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "a &", "a & b", "a | b", "a&&", "&&a", "!", "!!a", "()", "(a", "a)", "a->b->c", "->a", "a->"),
        *("a<b", "a>b", "'a'", "it's", '"a', 'a"', '"a\nb"', r'"a\x"', 'a "b"', '"a""b"', "a!b", "a(b)", "a&&||b"),
        "(" * 100_000,
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
    ],
)
def test_what_is_no_expression_is_refused_with_a_sentence(text):
    with pytest.raises(InvalidRequest, match=r"(no|a) label expression"):
        parse(text)


def test_long_expressions_and_deep_ones_are_read():
    assert parse("||".join(["a"] * 50_000)).matches(["a"])
    assert parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH) == Atom("a")


def test_the_atoms_come_in_order_and_as_often_as_they_stand_there():
    assert parse('!b && (a || "x y") -> b').atoms == ("b", "a", "x y", "b")


@given(EXPRESSIONS)
def test_the_text_of_an_expression_is_read_as_the_same(expression):
    assert parse(str(expression)) == expression


@given(EXPRESSIONS, st.data())
def test_an_expression_says_of_labels_what_its_operators_say(expression, data):
    labels = data.draw(st.sets(st.sampled_from(expression.atoms)))
    assert expression.matches(labels) is meaning(expression, labels)


def meaning(expression, labels):
    if isinstance(expression, Atom):
        return expression.name in labels
    if isinstance(expression, Not):
        return not meaning(expression.operand, labels)
    means = [meaning(operand, labels) for operand in expression.operands]
    if expression.operator == "->":
        return not means[0] or means[1]
    return {"&&": all(means), "||": any(means), "<->": reduce(lambda a, b: a == b, means)}[expression.operator]


@given(st.text(st.sampled_from("ab->&|!() \"'\\\t<"), max_size=12))
def test_any_text_is_an_expression_or_refused(text):
    try:
        expression = parse(text)
    except InvalidRequest:
        assert parse_name(text) == Atom(text)
    else:
        assert parse(str(expression)).atoms == expression.atoms


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("with space", Atom("with space")),
        ("a&&b", Chain("&&", (Atom("a"), Atom("b")))),
        ('"image=a:1"&&b', Chain("&&", (Atom("image=a:1"), Atom("b")))),
        ('"image=a:1"&&"b/c"', Chain("&&", (Atom("image=a:1"), Atom("b/c")))),
        ("it's", Atom("it's")),
    ],
)
def test_a_labels_name_is_an_expression_or_else_one_label(text, expression):
    assert parse_name(text) == expression


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ('"with space"', Atom("with space")),
        ("'with space'", Atom("with space")),
        ("with space", Atom("with space")),
        ('"a&&b"', Chain("&&", (Atom("a"), Atom("b")))),
        ('"image=a:1"', Atom("image=a:1")),
        ("image=a:1", Atom("image=a:1")),
        (r'"a\"b\ttab\\"', Atom('a"b\ttab\\')),
        ('"a b" && "c d"', Atom('a b" && "c d')),  # Jenkins' own mistake
        ('"', Atom('"')),
    ],
)
def test_a_jobs_label_is_read_as_jenkins_reads_it(text, expression):
    assert parse_assigned(text) == expression


@pytest.mark.parametrize(
    ("atom", "image", "rest"),
    [
        ("image=python", "python", {}),
        ("image=maven:3-eclipse-temurin-21", "maven:3-eclipse-temurin-21", {}),
        ("image=r.example:5000/a/b", "r.example:5000/a/b", {}),
        ("image=r.example:5000/a/b:1.0,cpus=2", "r.example:5000/a/b:1.0", {"cpus": 2}),
        (f"image=a@{DIGEST},memory=4g", f"a@{DIGEST}", {"memory": 4 * 1024**3}),
        (
            "image=a,run=b-1,memory=512MiB,cpus=0.5",
            "a",
            {"cpus": 0.5, "memory": 512 * 1024**2, "run": "b-1"},
        ),
        ("image=a,run=x=y", "a", {"run": "x=y"}),
    ],
)
def test_an_image_label_asks_for_what_it_says(atom, image, rest):
    assert parse_image(atom) == ImageLabel(atom=atom, image=image, **rest)


@pytest.mark.parametrize("atom", ["", "image", "Image=a", "linux", "images=a", " image=a"])
def test_any_other_label_asks_for_no_image(atom):
    assert parse_image(atom) is None


@pytest.mark.parametrize(
    ("atom", "sentence"),
    [
        ("image=", "names no image"),
        ("image=,cpus=2", "names no image"),
        ("image=a,", "'' is none of cpus=, memory=, docker= and run="),
        ("image=a,cpu=2", "'cpu=2' is none of cpus=, memory=, docker= and run=, as in image=maven:3,cpus=2,memory=4g"),
        ("image=a,template=x", "'template=x' is none of"),
        ("image=a,cpus", "'cpus' is none of"),
        ("image=a,run=", "'run=' is none of"),
        ("image=a,cpus=2,cpus=2", "gives cpus= twice"),
        ("image=a,cpus=0", "cpus=0 is no number of CPUs"),
        ("image=a,cpus=-1", "cpus=-1 is no number of CPUs"),
        ("image=a,cpus=nan", "cpus=nan is no number"),
        ("image=a,cpus=1e3", "cpus=1e3 is no number"),
        ("image=a,cpus=\uff11", "is no number"),
        ("image=a,memory=much", "memory=much: 'much' is not a size"),
        ("image=a,memory=0", "memory=0 is nothing"),
        ("image=a,memory=" + "9" * 400, "is not a size"),
    ],
)
def test_an_image_label_that_is_wrong_is_refused_with_a_sentence(atom, sentence):
    with pytest.raises(InvalidRequest) as refusal:
        parse_image(atom)
    assert sentence in str(refusal.value)
    assert atom in str(refusal.value)
