"""What a refusal says."""

from agent.gate.policy import Refused


def test_a_refusal_is_one_line_of_a_log():
    said = str(Refused("field", "HostConfig.'a\nrefused by nobody\r\u2028b\x1b[2J' is not for builds"))
    assert said.isprintable()
    assert "refused by nobody" in said
