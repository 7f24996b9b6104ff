"""Times and durations for people."""

from __future__ import annotations

import pytest

from api.client import times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01t00:00:10.5z", 10.5),
        ("1970-01-01T01:00:10.123456789+01:00", 10.123457),
        ("1969-12-31T23:00:00-01:00", 0),
    ],
)
def test_every_form_of_rfc_3339_is_understood(text, seconds):
    assert times.parse(text).timestamp() == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "2026-03-01", "2026-03-01T10:00:00", "yesterday"])
def test_anything_else_is_an_error(text):
    with pytest.raises(ValueError, match="RFC 3339"):
        times.parse(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"), (0.024, "0.02 s"), (0.31, "0.3 s"), (3.24, "3.2 s"), (59.94, "59.9 s"), (59.97, "1 m 00 s"),
        (60, "1 m 00 s"), (245, "4 m 05 s"), (7380, "2 h 03 m"), (5 * 86400, "5 d"),
    ],
)  # fmt: skip
def test_durations_have_as_many_parts_as_matter(seconds, text):
    assert times.duration(seconds) == text


def test_a_clock_that_runs_behind_gives_no_negative_age():
    assert times.since("2999-01-01T00:00:00Z") == 0
    assert times.between("2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z") == 0
