"""The program's commands, called in this process."""

from typing import Any

from typer.testing import CliRunner, Result

from listenwell.cli.main import app


def invoke(*arguments: Any, **settings: Any) -> Result:
    """Call `listenwell` with these arguments; settings: of `CliRunner.invoke`, such as `input`."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], **settings)


def succeed(*arguments: Any, **settings: Any) -> Result:
    """The same, and it must end well."""
    done = invoke(*arguments, **settings)
    assert done.exit_code == 0, done.output
    return done
