"""What several commands share: errors as one sentence, the overrides argument, what a study reads, figures as text."""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.core import TyperGroup

from listenwell.errors import ConfigError, ListenwellError, ManifestError
from listenwell.storage.load_or_make import cache_root

if TYPE_CHECKING:
    from listenwell.config import Config
    from listenwell.data.clip import Clip

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[section.key=value]...", help="Changes to the config.", show_default=False),
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="Config file (YAML).")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished study, such as runs/starter.")]
AdapterFolder = Annotated[
    Path | None, typer.Option("--adapter", help="Folder of a trained adapter, or of a study that delivers one.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]


class OneSentenceErrors(TyperGroup):
    """Prints a ListenwellError or Ctrl-C as one sentence and turns it into the exit status; cuts no help off.

    panels: title -> the commands that the help lists below it; the others follow below `other_commands`.
    """

    panels: ClassVar[Mapping[str, Sequence[str]]] = {}
    other_commands: ClassVar[str] = "Commands"

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands by panel, each with the whole first paragraph of its help."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        shown = {
            name: inspect.cleandoc(command.help or "").split("\n\n")[0]
            for name, command in commands.items()
            if command and not command.hidden
        }
        in_panels = {name for names in self.panels.values() for name in names}
        others = [name for name in shown if name not in in_panels]
        for title, names in {**self.panels, self.other_commands: others}.items():
            with formatter.section(title):
                formatter.write_dl([(name, shown[name]) for name in names])

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ListenwellError as error:
            print(f"listenwell: error: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as interrupt:
            print(
                "listenwell: interrupted; finished files stay, none is half-written; run the same command to go on.",
                file=sys.stderr,
            )
            raise typer.Exit(130) from interrupt


def study_config(path: Path, overrides: list[str]) -> "Config":
    """The config of a study whose table of clips is there: seconds pass until what trains is imported.

    Raises ConfigError for every fault of the config, ManifestError for a table that is missing.
    """
    if "=" in path.name and not path.exists():
        raise ConfigError(f"{path}: is a change, not a config; give the config file first, then its changes.")
    from listenwell.config import load_config
    from listenwell.data.corpora.catalogue import STARTER

    config = load_config(path, overrides)
    manifest = Path(config.data.manifest)
    if config.data.manifest != STARTER and not manifest.is_file():
        raise ManifestError(
            f"{manifest}: there is no such table of clips, which data.manifest names; give its path from the folder "
            "you are in, or make it with 'listenwell init FOLDER'."
        )
    return config


def study_inputs(config: "Config", *files: Path | None) -> Iterator[Path]:
    """What a study of this config reads: `files` that were given, its base, its tables and their recordings."""
    from listenwell.splits.clips import NONE, STARTER

    yield from (file for file in files if file is not None)
    yield Path(config.model.name)
    if STARTER in (config.data.manifest, config.data.backgrounds):
        yield cache_root() / STARTER
    if config.data.manifest != STARTER:
        yield from table_inputs(Path(config.data.manifest), columns=config.data.columns)
    if config.data.backgrounds not in (STARTER, NONE):
        yield from table_inputs(None, Path(config.data.backgrounds))


def table_inputs(
    clips: Path | None, backgrounds: Path | None = None, columns: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """The tables and the recordings that they name."""
    from listenwell.data.manifest import read_backgrounds, read_manifest

    if clips is not None:
        yield clips
        yield from (clip.path for clip in read_manifest(clips, columns or {}))
    if backgrounds is not None:
        yield backgrounds
        yield from (background.path for background in read_backgrounds(backgrounds))


def read_text(path: Path) -> str:
    """The text of a file that a person wrote. Raises ConfigError when it cannot be read, or holds nothing."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text; give a text file with the question.") from error
    if not text:
        raise ConfigError(f"{path}: is empty; the question put to the model was expected.")
    return text


def count_groups(clips: "Sequence[Clip]") -> Iterator[tuple[str, int, int]]:
    """(label, clips, groups) of every label there is."""
    from listenwell.data.clip import LABELS

    by_label = {label: [clip for clip in clips if clip.label == label] for label in LABELS}
    yield from ((label, len(of), len({clip.group for clip in of})) for label, of in by_label.items() if of)


def peak_memory_gib() -> float:
    """The most memory this process has held so far."""
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**30 if sys.platform == "darwin" else 2**20)
