"""The URL of a job says its full name, and no other URL says any."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.job_url import MAX_NAME, full_name, of_task

NAMES = st.lists(
    st.text(min_size=1, max_size=20).filter(
        lambda name: name.isprintable() and name not in {".", ".."} and not {"/", "\\"} & set(name)
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://jenkins/job/team/job/app/", "team/app"),
        ("https://jenkins/job/app", "app"),
        ("http://127.0.0.1:8080/ci/old/job/team/job/app/", "team/app"),
        ("https://jenkins/job/my%20team/job/caf%C3%A9/", "my team/café"),
        ("https://jenkins/job/app/job/feature%252Flogin/", "app/feature%2Flogin"),
        ("https://jenkins/job/job/job/job/", "job/job"),
        ("https://jenkins/job/app/job/.github/", "app/.github"),
        ("https://jenkins/job/a@b/", "a@b"),
    ],
)
def test_a_job_s_url_says_its_full_name(url, name):
    assert full_name(url) == name


@given(NAMES, st.sampled_from(["", "/ci", "/a/b"]))
def test_whatever_jobs_are_called_their_url_says_it(names, prefix):
    path = "/".join(f"job/{quote(name, safe='')}" for name in names)
    full = "/".join(names)
    assert full_name(f"https://jenkins{prefix}/{path}/") == (full if len(full) <= MAX_NAME else None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "team/app",
        "/job/app/",
        "ftp://jenkins/job/app/",
        "https:///job/app/",
        "https://jenkins/",
        "https://jenkins/job/",
        "https://jenkins/job//",
        "https://jenkins/job/app//",
        "https://jenkins/job/team//job/app/",
        "https://jenkins/view/all/",
        "https://jenkins/job/app/12/",
        "https://jenkins/job/team/view/all/job/app/",  # which would be `app`, not `team/app`
        "https://jenkins/job/job/team/job/app/",
        "https://jenkins/job/team%2Fapp/",
        "https://jenkins/job/team%2fapp/",
        "https://jenkins/job/team%5Capp/",
        "https://jenkins/job/team\\app/",
        "https://jenkins/job/../job/app/",
        "https://jenkins/job/%2e%2E/job/app/",
        "https://jenkins/job/./",
        "https://jenkins/job/%00/",
        "https://jenkins/job/a%0Ab/",
        "https://jenkins/job/a%1B%5B31m/",
        "https://jenkins/job/%E2%80%AEppa/",  # right-to-left override
        "https://jenkins/job/%ED%A0%80/",  # half a surrogate pair
        "https://jenkins/job/%FF/",
        "https://jenkins/job/%/",
        "https://jenkins/job/%4/",
        "https://jenkins/job/%zz/",
        "https://jenkins/job/a b/",
        "https://jenkins/job/café/",
        "https://jenkins/job/app/\n",
        "https://jenkins/job/app/?x=/job/other/",
        "https://jenkins/job/app/#/job/other/",
        "https://me:pw@jenkins/job/app/",
        f"https://jenkins/job/{'a' * (MAX_NAME + 1)}/",
    ],
)
def test_no_other_url_says_any(url):
    assert full_name(url) is None


@given(st.text(st.characters(codec=None)))
def test_nor_does_any_text_make_it_fail(text):
    for url in (text, f"https://jenkins/job/{text}/"):
        name = full_name(url)
        assert name is None or (name.isprintable() and ".." not in name.split("/"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://jenkins/job/team/job/app/", "team/app"),
        ("https://jenkins/job/team/job/app/12/", "team/app"),
        ("https://jenkins/job/team/job/12/", "team/12"),
        ("https://jenkins/job/team/job/12/3/", "team/12"),
        ("https://jenkins/job/app/12/execution/", None),
        ("", None),
    ],
)
def test_a_task_is_a_job_or_a_run_of_one(url, name):
    assert of_task(url) == name
