"""A run that somebody made before, opened by its folder: where its artefacts lie, its config, its delivered adapter."""

import json
from pathlib import Path

from listenwell.config import Config, load_config
from listenwell.errors import ListenwellError
from listenwell.progress import OnProgress, ignore_progress
from listenwell.run_folder import RunFolder, read_kept_results
from listenwell.study.fit_files import require_adapter
from listenwell.study.parts import Parts, allocation
from listenwell.study.reading import read_parts


def open_run(root: Path) -> tuple[RunFolder, Config]:
    """The run below `root` with the ledger its config names; its output is `root`, wherever the run was made.

    Raises ListenwellError when there is none.
    """
    path = RunFolder(root).config
    if not path.is_file():
        raise ListenwellError(f"{root}: holds no run (no {path.name}); give the folder that 'output' names.")
    config = load_config(path).model_copy(update={"output": root})
    return RunFolder(root, config.ledger), config


def parts_of_run(run: RunFolder, config: Config, on_progress: OnProgress = ignore_progress) -> Parts:
    """The parts that the run trained, chose and tested on. Raises ListenwellError when its data are others by now."""
    parts, _ = read_parts(config, on_progress)
    if run.allocation.is_file() and json.loads(run.allocation.read_text(encoding="utf-8")) != allocation(parts):
        raise ListenwellError(
            f"{run.root}: its recordings, labels or groups are not those the study was run on ({run.allocation.name} "
            "tells which groups were where); run the study again, or restore them."
        )
    return parts


def delivered_adapter(run: RunFolder) -> Path:
    """The adapter's folder of a finished study. Raises ListenwellError when it is not finished, or was changed."""
    if not run.results.is_file():
        raise ListenwellError(
            f"{run.root}: holds no finished study (no {run.results.name}); run 'listenwell study' first."
        )
    results = read_kept_results(run)
    if "fits" not in results:
        raise ListenwellError(f"{run.root}: was scored, not trained, so it has no adapter; give the folder of a study.")
    folder = run.fit(results["fits"][0]["identity"])
    require_adapter(folder)
    return folder / "adapter"


def find_adapter(folder: Path) -> Path:
    """The folder itself where an adapter lies in it; of a finished study, that of the adapter it delivers."""
    is_run = RunFolder(folder).config.is_file() and not (folder / "adapter_config.json").is_file()
    return delivered_adapter(open_run(folder)[0]) if is_run else folder
