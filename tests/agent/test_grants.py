"""Nobody pushes anywhere but where a grant says so, however the name is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import InvalidRequest, Rejected
from agent.grants import check_docker, may_push
from agent.references import parse
from agent.settings.grants import GrantSettings
from agent.tokens import Scope, Token

DIGEST = "sha256:" + "a" * 64
TEAM_A = GrantSettings(tokens=["ci"], push=["registry.example/team-a/**"])


def token(name="ci", *, scopes=(Scope.WRITE,), job=None):
    return Token(id="abcdefgh", name=name, scopes=frozenset(scopes), created_at=0, job=job)


def of_job(job):
    return token(f"job:{job}", job=job)


def pushed(reference, *push, **grants):
    """What a token `ci` with a grant of these patterns, or with these grants, pushes there."""
    return str(may_push(token(), reference, grants or {"a": GrantSettings(tokens=["ci"], push=list(push))}))


HOSTILE = [
    # another repository of the same registry
    "registry.example/team-ab/app",
    "registry.example/team-ab/app:1",
    "registry.example/team-a",
    "registry.example/team-a:app",
    "registry.example/team-a-b/app",
    "registry.example/team-a.b/app",
    "registry.example/team-a_b/app",
    "registry.example/team_a/app",
    "registry.example/team/a/app",
    "registry.example/app",
    "registry.example/x/team-a/app",
    "registry.example/library/team-a/app",
    "registry.example/team-b/team-a",
    # climbing out of it, or parts that are none
    "registry.example/team-a/../team-b/app",
    "registry.example/team-a/..",
    "registry.example/team-a/./app",
    "registry.example/./team-a/app",
    "registry.example/../registry.example/team-a/app",
    "registry.example//team-a/app",
    "registry.example/team-a//app",
    "registry.example/team-a/",
    "registry.example/team-a/app/",
    "/registry.example/team-a/app",
    "//registry.example/team-a/app",
    "registry.example/team-a/.app",
    "registry.example/team-a/app.",
    "registry.example/team-a/-app",
    "registry.example/team-a/a___b",
    "registry.example\\team-a\\app",
    "registry.example/team-a\\app",
    # encodings
    "registry.example/team-a%2fapp",
    "registry.example/team-a%2f..%2fteam-b/app",
    "registry.example/team-a/%2e%2e/app",
    "registry.example%2fteam-a/app",
    "registry.example/team-a/app%00",
    # another registry
    "registry.example:443/team-a/app",
    "registry.example:80/team-a/app",
    "registry.example:5000/team-a/app",
    "registry.example:/team-a/app",
    "registry.example:x/team-a/app",
    "registry.example:000443/team-a/app",
    "registry.example./team-a/app",
    ".registry.example/team-a/app",
    "registry..example/team-a/app",
    "registry.example.evil.com/team-a/app",
    "evil.com/registry.example/team-a/app",
    "xregistry.example/team-a/app",
    "registry-example/team-a/app",
    "registryxexample/team-a/app",
    "sub.registry.example/team-a/app",
    "localhost/registry.example/team-a/app",
    "[::1]:5000/team-a/app",
    "[registry.example]/team-a/app",
    "127.0.0.1/team-a/app",
    "user@registry.example/team-a/app",
    "user:pass@registry.example/team-a/app",
    "https://registry.example/team-a/app",
    "docker://registry.example/team-a/app",
    "registry.example:443@evil.com/team-a/app",
    "registry.example#/team-a/app",
    "registry.example?/team-a/app",
    "registry.example/team-a/app?x=1",
    "registry.example/team-a/app#x",
    # Docker Hub
    "team-a/app",
    "docker.io/team-a/app",
    "index.docker.io/team-a/app",
    "registry-1.docker.io/team-a/app",
    "library/team-a",
    "app",
    "python:3.12",
    # letters that look the same, or are none
    "registry.example/Team-A/app",
    "registry.example/TEAM-A/APP",
    "registry.example/team-a/App",
    "registry.ex\u0430mple/team-a/app",
    "r\u00e9gistry.example/team-a/app",
    "registry\u3002example/team-a/app",
    "registry.example/te\u0430m-a/app",
    "registry.example/team-a/app\u0661",
    "registry.example:\u0665\u0660\u0660\u0660/team-a/app",
    "registry.example\uff0fteam-a/app",
    "registry.example/team\u2010a/app",
    "registry.example/team-a/\u200bapp",
    "registry.example/\u200bteam-a/app",
    "registry.example/team-a\u200b/app",
    "\ufeffregistry.example/team-a/app",
    "registry.example/team-a/app\u00ad",
    "registry.example/team-a/\u212aapp",
    # white space and control characters
    "registry.example/team-a/app\n",
    "\nregistry.example/team-a/app",
    "registry.example/team-a/app ",
    " registry.example/team-a/app",
    "registry.example/team-a/app:1\n",
    "registry.example/team-b/app\nregistry.example/team-a/app",
    "registry.example/team-a/a\tpp",
    "registry.example/team-a/app\r\n",
    "registry.example/team-a/app\0",
    "evil.com/x\0registry.example/team-a/app",
    # tags and digests
    "registry.example/team-a/app:",
    "registry.example/team-a/app:.1",
    "registry.example/team-a/app:-1",
    "registry.example/team-a/app:a/b",
    "registry.example/team-a/app:1:2",
    "registry.example/team-a/app:\u0661",
    "registry.example/team-a/app:" + "a" * 129,
    f"registry.example/team-a/app@{DIGEST}",
    f"registry.example/team-a/app:1@{DIGEST}",
    f"registry.example/team-b/app:1@{DIGEST}",
    "registry.example/team-a/app@sha256:abc",
    "registry.example/team-a/app@",
    "registry.example/team-a/app@latest",
    f"registry.example/team-a/app@{DIGEST}@{DIGEST}",
    DIGEST,
    "a" * 64,
    # patterns are no names
    "registry.example/team-a/**",
    "registry.example/team-a/*",
    "*/team-a/app",
    "**",
    # nothing, and too much
    "",
    ":",
    "@",
    "/",
    ":1",
    "registry.example",
    "registry.example/",
    "registry.example/:1",
    "registry.example/team-a/" + "a" * 300,
    "registry.example/team-a/" + "a/" * 200 + "app",
    "a" * 100_000,
]

ALLOWED = {
    "registry.example/team-a/app": "registry.example/team-a/app:latest",
    "registry.example/team-a/app:latest": "registry.example/team-a/app:latest",
    "registry.example/team-a/app:1": "registry.example/team-a/app:1",
    "registry.example/team-a/app:1.0-RC_1": "registry.example/team-a/app:1.0-RC_1",
    "registry.example/team-a/app:_x": "registry.example/team-a/app:_x",
    "registry.example/team-a/x/app": "registry.example/team-a/x/app:latest",
    "registry.example/team-a/x/y/z/app:1": "registry.example/team-a/x/y/z/app:1",
    "registry.example/team-a/team-b": "registry.example/team-a/team-b:latest",
    "registry.example/team-a/library": "registry.example/team-a/library:latest",
    "registry.example/team-a/registry.example/app": "registry.example/team-a/registry.example/app:latest",
    "registry.example/team-a/my.app": "registry.example/team-a/my.app:latest",
    "registry.example/team-a/my_app": "registry.example/team-a/my_app:latest",
    "registry.example/team-a/my__app": "registry.example/team-a/my__app:latest",
    "registry.example/team-a/my---app": "registry.example/team-a/my---app:latest",
    "registry.example/team-a/0": "registry.example/team-a/0:latest",
    "Registry.Example/team-a/app": "registry.example/team-a/app:latest",
    "REGISTRY.EXAMPLE/team-a/app:1": "registry.example/team-a/app:1",
    "registry.example/team-a/app:" + "a" * 128: "registry.example/team-a/app:" + "a" * 128,
    "registry.example/team-a/" + "a" * 200: "registry.example/team-a/" + "a" * 200 + ":latest",
    "registry.example/team-a/deadbeef": "registry.example/team-a/deadbeef:latest",
}


@pytest.mark.parametrize("reference", HOSTILE)
def test_what_is_elsewhere_or_no_name_is_not_pushed(reference):
    with pytest.raises(InvalidRequest):  # Rejected is one
        may_push(token(), reference, {"a": TEAM_A})


@pytest.mark.parametrize(("reference", "full"), ALLOWED.items())
def test_what_is_there_is_pushed_by_its_full_name(reference, full):
    assert str(may_push(token(), reference, {"a": TEAM_A})) == full


near = st.text("registy.xampl/ta-:@AR\u0430\n*%", max_size=12)
hostile = st.one_of(
    st.text(max_size=40),
    st.builds(lambda begin, end: begin + "registry.example/team-a/app" + end, near, near),
    st.builds(lambda between: f"registry.example{between}team-a/app", near),
    st.builds(lambda between: f"registry.example/team-a{between}app", near),
)


@given(hostile)
def test_whatever_is_pushed_is_there(reference):
    try:
        wanted = may_push(token(), reference, {"a": TEAM_A})
    except InvalidRequest:
        return
    assert wanted.name.startswith("registry.example/team-a/")
    assert ".." not in wanted.name
    assert wanted.digest is None
    assert parse(str(wanted)) == wanted


# --- what patterns mean


@pytest.mark.parametrize(
    ("push", "reference"),
    [
        ("team/*", "docker.io/team/app"),
        ("python", "docker.io/library/python"),
        ("docker.io/python", "python"),
        ("registry.example/app:1.*", "registry.example/app:1.2"),
        ("registry.example:443/**", "registry.example:443/app"),
        ("Registry.Example/**", "registry.example/app"),
        ("*.example/app", "registry.example/app"),
        ("*/app", "registry.example:5000/app"),
    ],
)
def test_a_pattern_is_read_like_a_reference(push, reference):
    assert pushed(reference, push)


@pytest.mark.parametrize(
    ("push", "reference"),
    [
        ("registry.example/**", "registry.example:443/app"),
        ("registry.example:443/**", "registry.example/app"),
        ("registry.example/app:1.*", "registry.example/app:2.0"),
        ("registry.example/app:1.*", "registry.example/app"),
        ("team-*/app", "team-x.evil.example/app"),
        ("team-*/app", "team-x:5000/app"),
        ("team/app", "TEAM/app"),
        ("**/app", "Team/app"),
    ],
)
def test_a_pattern_covers_no_other_registry_and_no_other_tag(push, reference):
    with pytest.raises(InvalidRequest):
        pushed(reference, push)


# --- whom a grant is for


@pytest.mark.parametrize(
    ("jobs", "job", "allowed"),
    [
        ("team-a/**", "team-a/app", True),
        ("team-a/**", "team-a/x/app", True),
        ("team-a/**", "team-a", False),
        ("team-a/**", "team-ab/x", False),
        ("team-a/*", "team-a/x/app", False),
        ("team-a", "team-a", True),
        ("Team A/**", "Team A/app", True),
        ("team-a/**", "Team-A/app", False),
        ("**", "any/job", True),
    ],
)
def test_a_grant_for_jobs_is_for_those_that_its_pattern_covers(jobs, job, allowed):
    grants = {"a": GrantSettings(jobs=[jobs], push=["**"])}
    if allowed:
        assert may_push(of_job(job), "registry.example/app", grants)
    else:
        with pytest.raises(Rejected):
            may_push(of_job(job), "registry.example/app", grants)


def test_a_job_is_no_token_and_a_token_no_job():
    for_tokens = {"a": GrantSettings(tokens=["*"], push=["**"])}
    for_jobs = {"a": GrantSettings(jobs=["**"], push=["**"])}
    with pytest.raises(Rejected):
        may_push(of_job("ci"), "registry.example/app", for_tokens)
    with pytest.raises(Rejected):
        may_push(token("ci"), "registry.example/app", for_jobs)


def test_a_caller_may_what_any_of_its_grants_says():
    grants = {
        "a": TEAM_A,
        "b": GrantSettings(tokens=["c*"], push=["registry.example/b/*"]),
        "c": GrantSettings(tokens=["other"], push=["registry.example/c/*"]),
    }
    assert may_push(token(), "registry.example/team-a/app", grants)
    assert may_push(token(), "registry.example/b/app", grants)
    with pytest.raises(Rejected) as refusal:
        may_push(token(), "registry.example/c/app", grants)
    assert refusal.value.rule == "grants"
    assert str(refusal.value) == (
        "the token ci may not push registry.example/c/app:latest; it may push registry.example/team-a/** (grants.a), "
        "registry.example/b/* (grants.b). Take such a name, or ask an admin for a grant."
    )


def test_whoever_is_in_no_grant_is_told_how_to_get_one():
    with pytest.raises(Rejected) as refusal:
        may_push(of_job("team-b/app"), "registry.example/team-a/app:1", {"a": TEAM_A})
    assert str(refusal.value) == (
        "the job team-b/app may not push registry.example/team-a/app:1; no grant is for it. An admin can give one: "
        "[grants.NAME] with jobs = ['team-b/app'] and push = [...]."
    )


def test_without_grants_an_admin_may_push_everywhere_and_nobody_else_anywhere():
    admin = token("admin", scopes=[Scope.ADMIN])
    assert str(may_push(admin, "app", {})) == "docker.io/library/app:latest"
    with pytest.raises(Rejected):
        may_push(token(), "app", {})
    with pytest.raises(Rejected):
        may_push(of_job("app"), "app", {})


def test_with_grants_an_admin_is_like_all_others():
    admin = token("admin", scopes=[Scope.ADMIN])
    with pytest.raises(Rejected):
        may_push(admin, "registry.example/team-a/app", {"a": TEAM_A})


@pytest.mark.parametrize("reference", [f"app@{DIGEST}", f"app:1@{DIGEST}"])
def test_a_digest_is_not_pushed_by_anybody(reference):
    with pytest.raises(Rejected, match="names a digest, and only tags can be pushed"):
        may_push(token("admin", scopes=[Scope.ADMIN]), reference, {})


DOCKER = {"a": GrantSettings(jobs=["team-a/**"], docker=["scoped"]), "b": GrantSettings(tokens=["ci"], docker=["host"])}


def test_docker_is_for_whom_a_grant_of_that_level_names():
    check_docker(of_job("team-a/app"), "scoped", DOCKER)
    check_docker(token("ci"), "host", DOCKER)
    for nobody in (of_job("team-ab/app"), of_job("ci"), token("team-a/app"), token("other"), token("ci")):
        check_docker(nobody, "none", DOCKER)
        with pytest.raises(Rejected):
            check_docker(nobody, "scoped", DOCKER)
    with pytest.raises(Rejected) as refusal:
        check_docker(of_job("team-a/app"), "host", DOCKER)
    assert refusal.value.rule == "grants"
    assert str(refusal.value) == (
        "the job team-a/app may not use docker = 'host'; no grant is for that. An admin can give one: "
        "[grants.NAME] with jobs = ['team-a/app'] and docker = ['host']."
    )


def test_without_grants_an_admin_may_use_docker_but_for_the_hosts_own():
    admin = token("admin", scopes=[Scope.ADMIN])
    check_docker(admin, "scoped", {})
    for who, level in ((admin, "host"), (token(), "scoped"), (of_job("app"), "scoped")):
        with pytest.raises(Rejected):
            check_docker(who, level, {})
    with pytest.raises(Rejected):
        check_docker(admin, "scoped", DOCKER)
