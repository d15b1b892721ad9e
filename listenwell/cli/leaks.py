"""The command check: the leak gate over a study or a table of clips."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overrides, Overwrite, study_inputs, table_inputs

if TYPE_CHECKING:
    from listenwell.data.leakage import LeakReport

app = typer.Typer(cls=OneSentenceErrors)
CONFIG_SUFFIXES = (".yaml", ".yml")
SHOWN = 20


@app.command("check")
def check(
    source: Annotated[Path, typer.Argument(metavar="CONFIG|CLIPS.CSV", help="Config (YAML), or a table with splits.")],
    backgrounds: Annotated[
        Path | None, typer.Option("--backgrounds", help="backgrounds.csv to check with a table of clips.")
    ] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="Write the whole report here (JSON).")] = None,
    overwrite: Overwrite = False,
    overrides: Overrides = None,
) -> None:
    """Look for leaks between train, dev, test sets and backgrounds, by name and by ear; exit status 1 unless clean."""
    from listenwell.atomic_files import write_json
    from listenwell.config import load_config
    from listenwell.data.leakage import CLEAN
    from listenwell.destination import destinations
    from listenwell.errors import ConfigError
    from listenwell.progress import shown_progress
    from listenwell.study.check import check_study, check_table

    is_config = source.suffix.lower() in CONFIG_SUFFIXES
    if is_config and backgrounds is not None:
        raise ConfigError(f"{source}: a config names its own backgrounds; leave --backgrounds out.")
    if overrides and not is_config:
        raise ConfigError(
            f"{source}: is a table of clips, and '{overrides[0]}' would change a config; leave it out, or check the "
            "config of the study."
        )
    config = load_config(source, overrides or []) if is_config else None
    read = table_inputs(source, backgrounds) if config is None else study_inputs(config, source)
    with destinations([json_out], inputs=read, overwrite=overwrite):
        with shown_progress() as on_progress:
            if config is not None:
                report = check_study(config, on_progress)
            else:
                report = check_table(source, backgrounds, on_progress)
        if json_out is not None:
            write_json(json_out, report.to_json())
    typer.echo(report_text(report))
    if report.verdict != CLEAN:
        raise typer.Exit(1)


def report_text(report: "LeakReport") -> str:
    """The verdict, what was compared, and up to SHOWN findings of every kind."""
    lines = [
        f"{report.verdict}: {len(report.leaks)} leaks, {len(report.findings) - len(report.leaks)} warnings; compared "
        f"{sum(report.n_clips.values())} clips and {sum(report.n_backgrounds.values())} backgrounds of "
        f"{', '.join(report.n_clips)}, {report.n_pairs} pairs"
    ]
    for kind, n_found in Counter((finding.is_leak, finding.kind) for finding in report.findings).items():
        is_leak, name = kind
        lines.append(f"{'leak' if is_leak else 'warning'}: {name}, {n_found} found")
        shown = [f for f in report.findings if (f.is_leak, f.kind) == kind][:SHOWN]
        lines += [f"  {f.part_a} {f.id_a} | {f.part_b} {f.id_b} | {f.evidence}" for f in shown]
        lines += [f"  ... and {n_found - SHOWN} more; --json writes all"] if n_found > SHOWN else []
    lines += [f"not compared by ear: {reason}" for reason in report.unreadable]
    return "\n".join(lines)
