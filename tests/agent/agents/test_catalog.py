"""What a label expression gets: the first template that satisfies it, or what an image label says."""

import pytest

from agent.labels import parse
from tests.agent.agents.steps import catalog

TEMPLATES = catalog(
    small={"image": "debian:12", "labels": ["linux", "small"], "cpus": 1, "env": {"A": "1"}},
    big={"image": "debian:12", "labels": ["linux", "big"], "memory": "4g", "caches": {"maven": "/root/.m2"}},
)


@pytest.mark.parametrize(
    ("expression", "template"),
    [
        ("small", "small"),
        ("linux", "big"),  # the first by name
        ("linux && !big", "small"),
        ("big || small", "big"),
        ("!windows", "big"),
        ("windows -> linux", "big"),
        ("windows", None),
        ("linux && windows", None),
        ("small && big", None),
    ],
)
def test_templates_are_chosen_as_jenkins_evaluates(expression, template):
    request = TEMPLATES.for_expression(parse(expression))
    assert (request and request.template) == template


def test_a_template_is_taken_whole():
    request = TEMPLATES.for_expression(parse("big"))
    assert (request.image, request.memory, request.caches) == ("debian:12", 4 * 1024**3, {"maven": "/root/.m2"})
    assert request.node_labels == ["linux", "big"]


@pytest.mark.parametrize(
    ("expression", "image", "cpus", "memory"),
    [
        ("image=python:3.12", "python:3.12", None, None),
        ('"image=python:3.12"', "python:3.12", None, None),
        ("image=maven:3-eclipse-temurin-21,cpus=2,memory=4g,run=x1", "maven:3-eclipse-temurin-21", 2, 4 * 1024**3),
        ("image=a && !windows", "a", None, None),
        ("windows && image=a || image=b:1", "b:1", None, None),
    ],
)
def test_an_image_label_needs_no_template(expression, image, cpus, memory):
    request = catalog().for_expression(parse(expression))
    assert (request.image, request.cpus, request.memory, request.refusal) == (image, cpus, memory, None)


def test_the_node_gets_the_very_label():
    label = "image=registry.example:5000/team/app@sha256:" + "0" * 64 + ",run=a"
    assert catalog().for_expression(parse(label)).node_labels == [label]


@pytest.mark.parametrize("expression", ["image=a && image=b", "image=a && linux", "imagine=a"])
def test_what_no_agent_of_ours_would_satisfy_is_left_alone(expression):
    assert catalog().for_expression(parse(expression)) is None


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("image=a,disk=2", "disk"),
        ("image=a,memory=lots", "lots"),
        ("image=a,memory=1k", "memory"),
        ("image=a,cpus=0", "cpus"),
        ("image=", "image"),
    ],
)
def test_a_label_that_makes_no_sense_says_so_to_its_user(label, words):
    request = catalog().for_expression(parse(label))
    assert words in request.refusal
    assert request.node_labels == [label]


def test_a_node_leads_back_to_what_it_was_made_from():
    assert TEMPLATES.for_labels({"linux", "small"}).template == "small"
    assert TEMPLATES.for_labels({"image=a,cpus=2"}).cpus == 2
    assert TEMPLATES.for_labels({"linux", "windows"}) is None
    assert TEMPLATES.for_labels({"windows"}) is None
    assert TEMPLATES.for_labels(set()) is None
