"""Put a detector on the Hugging Face hub, as `listenwell export` wrote it; its model card once more as README.md.

One commit holds the whole folder, so that what is downloaded again is the detector, every file with its hash. Names of
models, tokens and errors: https://huggingface.co/docs/huggingface_hub.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from listenwell.detect.bundle import MODEL_CARD, RECORD
from listenwell.errors import ConfigError, ListenwellError
from listenwell.report.write import TAG

CARD_ON_HUB, GIT_ATTRIBUTES = "README.md", ".gitattributes"


def require_access(repo: str) -> None:
    """Raise ConfigError for what is no name of a repository, ListenwellError where no token opens the hub."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--push '{repo}': no name of a repository on the hub; give OWNER/NAME.") from error
    if get_token() is None:
        raise ListenwellError(f"--push {repo}: no token for the hub; run 'hf auth login', or set HF_TOKEN.")
    with _plain_errors(repo):
        HfApi().whoami()


def push_detector(folder: Path, repo: str, *, private: bool = False, overwrite: bool = False) -> str:
    """Commit the detector in `folder` to the repository, made where it is not there yet; return its address.

    private: only its owners see it. overwrite: also where other work than a detector lies there, or a README.md of
    somebody else. Raises ListenwellError, before anything is uploaded where the repository is not as asked for.
    """
    card = folder / MODEL_CARD
    if not card.is_file():
        raise ListenwellError(
            f"{folder}: has no {MODEL_CARD}; run 'listenwell report' on its study and export it again."
        )
    try:
        ModelCard(card.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ListenwellError(f"{card}: the hub would refuse its metadata ({error}); export it again.") from error
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with _plain_errors(repo):
        api = HfApi()
        address = api.create_repo(repo, private=private or None, exist_ok=True)
        found = api.model_info(address.repo_id)
        names = {file.rfilename for file in found.siblings or []} - {GIT_ATTRIBUTES}
        if private and not found.private:
            raise ListenwellError(f"{address}: is there already and public; make it private, or push to another name.")
        if names and RECORD not in names and not overwrite:
            raise ListenwellError(f"{address}: holds other work than a detector; give another name, or --overwrite.")
        if CARD_ON_HUB in names and TAG not in (getattr(found.card_data, "tags", None) or []) and not overwrite:
            raise ListenwellError(
                f"{address}: its {CARD_ON_HUB} is none that listenwell wrote (no tag '{TAG}') and would be replaced; "
                "give another name, or --overwrite."
            )
        api.create_commit(
            address.repo_id,
            [
                *(CommitOperationAdd(name, path) for name, path in {**files, CARD_ON_HUB: card}.items()),
                *(CommitOperationDelete(name) for name in names - set(files) if name.startswith("adapter/")),
            ],
            commit_message="Detector exported by listenwell",
        )
    return str(address)


@contextmanager
def _plain_errors(repo: str) -> Iterator[None]:
    """Say in one sentence what the hub or the way to it refused."""
    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = (error.server_message or str(error)).strip().splitlines()[0]
        advice = "try again later"
        if status == 401:
            advice = "the hub knows no such token; run 'hf auth login', or set HF_TOKEN"
        elif status == 403:
            advice = "the token may not write there; take one with the right to write, or a name of your own"
        raise ListenwellError(f"--push {repo}: the hub answers {status} ({said}); {advice}.") from error
    except (httpx2.HTTPError, OSError) as error:
        raise ListenwellError(
            f"--push {repo}: the hub cannot be reached ({error}); check the network and HF_ENDPOINT, and run the same "
            "command again."
        ) from error
    except (ValueError, RuntimeError) as error:  # a card that it refuses; an upload of large files that breaks off
        said = " ".join(str(error.__cause__ or error).split())
        raise ListenwellError(
            f"--push {repo}: the hub did not take it ({said}); run the same command again."
        ) from error
