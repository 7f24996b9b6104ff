"""What builds left, over HTTP."""

import pytest

pytestmark = pytest.mark.anyio
CONTENT = bytes(range(256)) * 2000
NAMES = ["report.xml", "deep/er/a b.txt", "<script>.html", "naïve \u2603.bin", 'quo"te;x=y']


@pytest.fixture
async def left(api):
    """Where the artifacts are of a build that left `NAMES` and an empty file, and that build."""
    build = await api.submit("stays", artifacts=["**"])
    await api.logged(build, "begun")
    workspace = api.data / "workspaces" / build["id"]
    for name in NAMES:
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
    (workspace / "empty").touch()
    api.goes_on.set()
    build = (await api.client.get(f"/v1/builds/{build['id']}?wait=30s")).json()
    assert build["result"] == "SUCCESS"
    return build["links"]["artifacts"], build


async def test_the_list_names_every_file_with_its_size(api, left):
    path, build = left
    listed = (await api.client.get(path)).json()["artifacts"]
    assert {each["path"]: each["size"] for each in listed} == dict.fromkeys(NAMES, len(CONTENT)) | {"empty": 0}
    assert build["artifacts"] == listed


@pytest.mark.parametrize("name", NAMES)
async def test_a_file_comes_back_as_it_was_to_be_saved_and_not_shown(api, left, name):
    answer = await api.client.get(f"{left[0]}/{name}".replace("%", "%25").replace(";", "%3B"))
    assert answer.content == CONTENT
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"].startswith("attachment; filename")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_an_empty_file_comes_back_empty(api, left):
    answer = await api.client.get(f"{left[0]}/empty")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "content", "told"),
    [
        ("bytes=0-99", CONTENT[:100], "bytes 0-99/512000"),
        ("bytes=511990-", CONTENT[-10:], "bytes 511990-511999/512000"),
        ("bytes=-10", CONTENT[-10:], "bytes 511990-511999/512000"),
        ("bytes=10-9999999", CONTENT[10:], "bytes 10-511999/512000"),
    ],
)
async def test_a_download_can_go_on_where_it_was_cut(api, left, asked, content, told):
    answer = await api.client.get(f"{left[0]}/report.xml", headers={"Range": asked})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, content, told)


@pytest.mark.parametrize(
    ("asked", "status"), [("bytes=512000-", 416), ("bytes=9-1", 400), ("lines=1-2", 400), ("bytes=", 400)]
)
async def test_a_range_that_cannot_be_sent_is_a_problem(api, left, asked, status):
    answer = await api.client.get(f"{left[0]}/report.xml", headers={"Range": asked})
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers.get("content-range") == ("bytes */512000" if status == 416 else None)


async def test_what_was_not_left_is_not_found(api, left):
    outside = [
        "../report.xml",
        "%2e%2e/%2e%2e/builds.db",
        "/etc/passwd",
        "..%2f..%2fsecret-key",
        "deep/../../../secret-key",
    ]
    for name in ["none", "deep", "deep/", "", "report.xml/x", "%00", "%ff", "report.xml%00", "a" * 5000, *outside]:
        answer = await api.client.get(f"{left[0]}/{name}")
        assert answer.status_code == 404, name
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_file_of_another_build_is_not_found(api, left):
    other = await api.finished()
    for name in ("report.xml", f"..%2f{left[1]['id']}%2freport.xml"):
        assert (await api.client.get(f"{other['links']['artifacts']}/{name}")).status_code == 404


async def test_a_build_that_left_nothing_has_an_empty_list(api):
    build = await api.finished()
    assert (await api.client.get(build["links"]["artifacts"])).json() == {"artifacts": []}
