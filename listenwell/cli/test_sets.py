"""Commands on tables of clips: test-set, audio-check."""

import json
from pathlib import Path
from typing import Annotated

import typer

from listenwell.cli.shared import OneSentenceErrors, Overwrite, study_inputs

app = typer.Typer(cls=OneSentenceErrors)


@app.command("test-set")
def draw_test_set(
    clips: Annotated[str, typer.Option("--clips", help="clips.csv, or starter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for test_set.csv and its data sheet.")],
    speakers: Annotated[int, typer.Option("--speakers", min=1, help="Speakers.")] = 10,
    speech_clips: Annotated[int, typer.Option("--speech-clips", min=1, help="Clips of each speaker.")] = 5,
    sounds: Annotated[int, typer.Option("--sounds", min=1, help="Sources of other sounds.")] = 20,
    sound_clips: Annotated[int, typer.Option("--sound-clips", min=1, help="Clips of each source.")] = 3,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of every draw.")] = 0,
    from_split: Annotated[str, typer.Option("--from-split", help="Draw from this split of the clips only.")] = "",
    exclude: Annotated[
        list[Path] | None, typer.Option("--exclude", help="Table of clips used elsewhere; may be given again.")
    ] = None,
    conditions: Annotated[
        str, typer.Option("--conditions", help="Also write plans for these, such as clean,snr_0,t60_0.3, or full.")
    ] = "",
    backgrounds: Annotated[
        str, typer.Option("--backgrounds", help="backgrounds.csv for snr_ conditions; the starter's for its clips.")
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Draw a test set by group and write it with its data sheet; no audio is copied."""
    from listenwell.config import load_config
    from listenwell.data.test_set import SetSize
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress
    from listenwell.study.make_test_set import FILES, Draw, make_test_set

    noise = backgrounds or ("starter" if clips == "starter" else "none")
    changes = [f"data.manifest={json.dumps(clips)}", f"data.backgrounds={json.dumps(noise)}", f"seed={seed}"]
    changes += [f"evaluation.conditions={json.dumps(conditions.split(','))}"] if conditions else []
    config = load_config(None, changes)
    draw = Draw(SetSize(speakers, speech_clips, sounds, sound_clips), from_split, tuple(exclude or ()))
    read = study_inputs(config, *(exclude or []))
    files = [out / name for name in FILES]
    with destinations(files, inputs=read, overwrite=overwrite, keep_own=True) as written:
        with shown_progress() as on_progress:
            sheet = make_test_set(config, draw, out, config.evaluation.conditions if conditions else (), on_progress)
        written.remove_rest()
    for each in sheet.precision:
        widths = ", ".join(f"±{100 * half_width:.1f} at {share:.0%}" for share, half_width in each.half_widths)
        typer.echo(
            f"{each.measure:18} {each.n_clips:4} clips, {each.n_groups:3} groups, effective n "
            f"{each.effective_n:.0f}; 95 % interval {widths}"
        )
    typer.echo(out / "test_set.csv")


@app.command("audio-check")
def check_audio(
    clips: Annotated[str, typer.Argument(metavar="CLIPS", help="clips.csv, or starter.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the shortcut test.")] = 0,
    out: Annotated[Path | None, typer.Option("--json", help="Also write the findings here (JSON).")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure clipping, DC, silence, level and bandwidth by class, and warn where they tell the label."""
    from dataclasses import asdict

    from listenwell.atomic_files import write_json
    from listenwell.config import load_config
    from listenwell.data.audio_checks import check_audio, format_audio_report
    from listenwell.destination import destinations
    from listenwell.progress import shown_progress
    from listenwell.study.prepare import find_manifest, read_split

    config = load_config(None, [f"data.manifest={json.dumps(clips)}"])
    with destinations([out], inputs=study_inputs(config), overwrite=overwrite):
        with shown_progress() as on_progress:
            report = check_audio(read_split(find_manifest(config, on_progress), ""), seed, on_progress)
        if out is not None:
            write_json(out, asdict(report))
    typer.echo(format_audio_report(report))
    if report.unreadable:
        raise typer.Exit(1)
