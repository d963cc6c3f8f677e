"""A command that fails is told in one line."""

import sys

import pytest

from ...release import command
from ...release.interface import CloudError


def test_output_is_returned_and_input_given() -> None:
    script = "import sys; print(sys.stdin.read().upper())"
    assert command.run([sys.executable, "-c", script], "yes").strip() == "YES"
    assert command.run_json([sys.executable, "-c", "print('[1]')"]) == [1]


def test_failure_ends_with_the_last_line_that_was_said() -> None:
    script = "import sys; sys.exit('first\\nPERMISSION_DENIED: no')"
    with pytest.raises(CloudError, match="failed with 1: PERMISSION_DENIED: no"):
        command.run([sys.executable, "-c", script])


def test_command_that_is_not_there() -> None:
    with pytest.raises(CloudError, match="no-such-tool is not installed"):
        command.run(["no-such-tool", "run"])
