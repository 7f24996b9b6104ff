"""What the client goes without in a build's own container, compared with what it would have loaded."""

import io
import json
import subprocess
import sys
from http.client import parse_headers
from pathlib import Path

import pytest

import api.client
from api.client import bare

MODULES = sorted(path.stem for path in Path(api.client.__path__[0]).glob("*.py"))
IMPORT_ALL = """
import importlib, json, sys
from api.client.bare import go_without
go_without()
for name in sys.argv[1:]:
    importlib.import_module(f"api.client.{name}")
print(json.dumps(sorted(name for name in sys.modules if name.split(".")[0] in {"ssl", "_ssl", "email"})))
"""
HEADERS = [
    "",
    "Content-Type: application/json\r\nContent-Length: 12\r\n",
    "content-type:text/plain\r\nX-More-Data:   true \t\r\n",
    "Location: https://a.example:8/b?c=d:e\r\nRetry-After: 5\r\n",
    "Set-Cookie: a\r\nset-cookie: b\r\n",
    "Empty:\r\nTransfer-Encoding: chunked\r\n",
]


@pytest.mark.parametrize("text", HEADERS)
def test_header_fields_mean_the_same(text):
    theirs = parse_headers(io.BytesIO(text.encode() + b"\r\n"))
    ours = bare.Parser(_class=bare.Message).parsestr(f"{text}\r\n")
    for name in (
        "content-type",
        "Content-Length",
        "X-More-Data",
        "Location",
        "Retry-After",
        "SET-COOKIE",
        "Empty",
        "no",
    ):
        # `email` keeps white space at the end, which is no part of a value (RFC 9110, 5.5).
        values = [value.strip() for value in theirs.get_all(name, [])]
        assert ours.get_all(name, []) == values
        assert ours.get(name, 7) == (values[0] if values else 7)
        assert (name in ours) == (name in theirs)


def test_all_of_the_client_can_be_loaded_and_loads_neither_openssl_nor_email():
    # __main__ runs what it is given; the upload of https alone asks for `ssl`.
    words = [sys.executable, "-c", IMPORT_ALL, *(name for name in MODULES if name not in {"__init__", "__main__"})]
    loaded = subprocess.run(words, capture_output=True, text=True, check=False)
    assert loaded.stderr == ""
    assert json.loads(loaded.stdout) == ["email", "email.message", "email.parser", "ssl"]
