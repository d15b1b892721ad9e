"""What was heard, written for people and for the programs they use.

    table      lines for a terminal
    json       one list of records, with scores and probabilities
    csv        one row per clip or segment
    rttm       NIST's SPEAKER lines (RT-09 evaluation plan), speaker name "speech"
    audacity   Audacity's label track: start, end, label, separated by tabs
    textgrid   Praat's TextGrid, one interval tier

Recordings decided whole are one segment from start to end, when they are SPEECH, in the last three.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from listenwell.detect.files import Heard

Interval = tuple[float, float]
Format = Callable[[Sequence[Heard]], str]


def write_table(heard: Sequence[Heard]) -> str:
    """Lines for a terminal."""
    lines = []
    width = max((len(str(each.path)) for each in heard if each.decision is not None), default=0)
    for each in heard:
        if each.problem:
            lines.append(f"{each.path}: not read: {each.problem}")
        elif each.decision is not None:
            word = "SPEECH   " if each.decision.is_speech else "NONSPEECH"
            says = f"{word}  p = {each.decision.probability:.3f}  score {each.decision.score:+.2f}"
            lines.append(f"{each.path!s:<{width}}  {says}  {each.duration_s:.2f} s")
        else:
            total_s = sum(segment.end_s - segment.start_s for segment in each.segments)
            lines.append(f"{each.path}  {total_s:.1f} of {each.duration_s:.1f} s are speech")
            lines += [f"  {_clock(s.start_s)} - {_clock(s.end_s)}  {s.activity:.2f}" for s in each.segments]
    return "\n".join(lines) + "\n"


def write_json_records(heard: Sequence[Heard]) -> str:
    """One list of records."""
    return json.dumps([_record(each) for each in heard], indent=1, ensure_ascii=False) + "\n"


def _record(each: Heard) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(each.path), "duration_s": round(each.duration_s, 6)}
    if each.problem:
        return {**record, "problem": each.problem}
    if each.decision is not None:
        decision = each.decision
        label = "SPEECH" if decision.is_speech else "NONSPEECH"
        return {**record, "label": label, "score": decision.score, "probability": decision.probability}
    segments = [
        {"start_s": round(s.start_s, 6), "end_s": round(s.end_s, 6), "activity": s.activity} for s in each.segments
    ]
    return {**record, "segments": segments}


def write_csv(heard: Sequence[Heard]) -> str:
    """One row per clip, per segment, and per recording without speech or that could not be read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start_s", "end_s", "label", "score", "probability", "activity", "problem"])
    for each in heard:
        end_s = f"{each.duration_s:.3f}"
        if each.problem:
            writer.writerow([_plain(str(each.path)), "", "", "", "", "", "", _plain(each.problem)])
        elif each.decision is not None:
            label = "SPEECH" if each.decision.is_speech else "NONSPEECH"
            score, probability = f"{each.decision.score:.6f}", f"{each.decision.probability:.6f}"
            writer.writerow([_plain(str(each.path)), "0.000", end_s, label, score, probability, "", ""])
        else:
            for s in each.segments:
                row = [f"{s.start_s:.3f}", f"{s.end_s:.3f}", "SPEECH", "", "", f"{s.activity:.6f}", ""]
                writer.writerow([_plain(str(each.path)), *row])
            if not each.segments:
                writer.writerow([_plain(str(each.path)), "0.000", end_s, "NONSPEECH", "", "", "", ""])
    return text.getvalue()


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (CWE-1236)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_rttm(heard: Sequence[Heard]) -> str:
    """SPEAKER lines; white space in a recording's name becomes an underscore."""
    lines = [
        f"SPEAKER {name} 1 {start_s:.3f} {end_s - start_s:.3f} <NA> <NA> speech <NA> <NA>"
        for each in heard
        for name in [re.sub(r"\s+", "_", each.path.stem)]
        for start_s, end_s in _speech(each)
    ]
    return "".join(f"{line}\n" for line in lines)


def write_audacity(heard: Sequence[Heard]) -> str:
    """A label track, of one recording."""
    return "".join(f"{start_s:.6f}\t{end_s:.6f}\tspeech\n" for start_s, end_s in _speech(*heard))


def write_textgrid(heard: Sequence[Heard]) -> str:
    """A TextGrid with the tier "speech", of one recording; stretches without speech are empty intervals."""
    (each,) = heard
    marked: list[tuple[float, float, str]] = []
    at_s = 0.0
    for start_s, end_s in _speech(each):
        if start_s > at_s:
            marked.append((at_s, start_s, ""))
        marked.append((start_s, end_s, "speech"))
        at_s = end_s
    if at_s < each.duration_s or not marked:
        marked.append((at_s, each.duration_s, ""))
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = {each.duration_s:.6f}\n'
    tier = (
        'tiers? <exists>\nsize = 1\nitem []:\n    item [1]:\n        class = "IntervalTier"\n'
        f'        name = "speech"\n        xmin = 0\n        xmax = {each.duration_s:.6f}\n'
        f"        intervals: size = {len(marked)}\n"
    )
    intervals = "".join(
        f"        intervals [{number}]:\n            xmin = {start_s:.6f}\n            xmax = {end_s:.6f}\n"
        f'            text = "{text}"\n'
        for number, (start_s, end_s, text) in enumerate(marked, start=1)
    )
    return head + tier + intervals


FORMATS: Mapping[str, Format] = {
    "table": write_table,
    "json": write_json_records,
    "csv": write_csv,
    "rttm": write_rttm,
    "audacity": write_audacity,
    "textgrid": write_textgrid,
}
ONE_EACH: Mapping[str, str] = {"audacity": ".txt", "textgrid": ".TextGrid"}
"""Formats that hold one recording, and the suffix of their files."""


def _speech(each: Heard) -> list[Interval]:
    if each.decision is not None:
        return [(0.0, each.duration_s)] if each.decision.is_speech else []
    return [(segment.start_s, segment.end_s) for segment in each.segments]


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{seconds % 60:05.2f}"


def name_files(heard: Sequence[Heard], suffix: str) -> list[str]:
    """One file name per recording: its stem, with a number where several share it."""
    names: list[str] = []
    for each in heard:
        name, number = f"{each.path.stem}{suffix}", 1
        while name in names:
            number += 1
            name = f"{each.path.stem}_{number}{suffix}"
        names.append(name)
    return names
