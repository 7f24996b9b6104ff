"""What of Docker an agent has, and which jobs are refused it."""

import pytest

from agent.agents import demand
from agent.agents.catalog import Catalog
from agent.labels import parse
from agent.settings import Settings
from agent.settings.grants import GrantSettings

GRANTS = {"a": GrantSettings(jobs=["team-a/**"], docker=["scoped"]), "h": GrantSettings(jobs=["ops"], docker=["host"])}
LABEL = "image=python:3.12,docker=scoped"


@pytest.fixture
def catalog():
    templates = {
        "plain": {"image": "a"},
        "safe": {"image": "a", "docker": "scoped"},
        "all": {"image": "a", "docker": "host"},
    }
    return Catalog(templates=Settings(templates=templates).resolved_templates(), grants=GRANTS)


def refusal(catalog, label, url):
    return catalog.granted(catalog.for_expression(parse(label)), url).refusal


@pytest.mark.parametrize(
    ("label", "job", "refused"),
    [
        (LABEL, "team-a/job/app", False),
        (LABEL, "team-a/job/app/12", False),
        (LABEL, "team-b/job/app", True),
        ("image=python:3.12", "team-b/job/app", False),
        ("image=python:3.12,docker=none", "team-b/job/app", False),
        ("plain", "team-b/job/app", False),
        ("safe", "team-b/job/app", False),
        ("all", "team-a/job/app", True),
        ("all", "ops", False),
        ("image=a,docker=host", "ops", False),
    ],
)
def test_a_label_needs_a_grant_and_a_template_is_one_but_for_the_host(catalog, label, job, refused):
    told = refusal(catalog, label, f"http://jenkins/job/{job}/")
    assert (told is not None) == refused
    if told is not None:
        assert "may not use docker = " in told
        assert told.endswith("(grants)")


def test_a_job_that_we_may_not_see_is_asked_when_it_connects(catalog):
    assert refusal(catalog, LABEL, "") is None


def test_daemons_that_there_are_none_of_are_refused_early():
    catalog = Catalog(templates={}, grants={"a": GrantSettings(jobs=["**"], docker=["isolated"])})
    assert "needs daemon.image" in refusal(catalog, "image=a,docker=isolated", "http://jenkins/job/x/")


def test_a_level_that_is_none_is_told(catalog):
    assert "docker=all is none of none, scoped, isolated, host" in refusal(catalog, "image=a,docker=all", "")


def test_a_refused_agent_stands_in_for_no_granted_one(catalog):
    one, other = (
        catalog.granted(catalog.for_expression(parse(LABEL)), f"http://jenkins/job/{job}/")
        for job in ("team-a/job/x", "b")
    )
    assert demand.key_of(one) != demand.key_of(other)
