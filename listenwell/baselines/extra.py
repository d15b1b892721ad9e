"""What baselines need beyond listenwell: the optional extra `baselines`, imported when one is made."""

from listenwell.errors import ListenwellError


def missing_package(baseline: str, package: str) -> ListenwellError:
    """Return the error that says how to install what `baseline` needs."""
    return ListenwellError(
        f"{baseline}: the Python package {package} is not installed; "
        "install the baselines with: pip install 'listenwell[baselines]'"
    )
