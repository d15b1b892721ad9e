"""What was heard, written for people and for the programs they use.

    table      lines for a terminal
    json       one list of records, with scores and probabilities
    csv        one row per clip or segment
    rttm       NIST's SPEAKER lines (RT-09 evaluation plan), speaker name "speech"; SPKR-INFO for a recording without
    audacity   Audacity's label track: start, end, label, separated by tabs
    textgrid   Praat's TextGrid, one interval tier

Recordings decided whole are one segment from start to end, when they are SPEECH, in the last three. What could not be
read stands in none of these three, so that it is not taken for a recording without speech; the caller says why.
"""

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.detect.files import Heard

Interval = tuple[float, float]
Format = Callable[[Sequence[Heard]], str]
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What breaks a line, steers a terminal, or is a byte of a name that is no UTF-8."""
CELLS = ("start_s", "end_s", "label", "score", "probability", "activity")
LONGEST_NAME = 200
"""Bytes of a name made from others; a file's may have 255."""


def shown(text: object) -> str:
    """The text on one line of UTF-8: control characters and bytes that are none are written escaped."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def problem_line(each: Heard) -> str:
    """Why a recording could not be read, with its path."""
    return shown(each.problem if str(each.path) in each.problem else f"{each.path}: {each.problem}")


def write_table(heard: Sequence[Heard]) -> str:
    """Lines for a terminal."""
    lines = []
    width = max((len(_called(each)) for each in heard if each.decision is not None), default=0)
    for each in heard:
        path = _called(each)
        if each.problem:
            lines.append(f"{path}: not read: {shown(each.problem)}")
        elif each.decision is not None:
            word = "SPEECH   " if each.decision.is_speech else "NONSPEECH"
            says = f"{word}  p = {each.decision.probability:.3f}  score {each.decision.score:+.2f}"
            lines.append(f"{path:<{width}}  {says}  {each.duration_s:.2f} s")
        else:
            total_s = sum(segment.end_s - segment.start_s for segment in each.segments)
            lines.append(f"{path}  {total_s:.1f} of {each.duration_s:.1f} s are speech")
            lines += [f"  {_clock(s.start_s)} - {_clock(s.end_s)}  {s.activity:.2f}" for s in each.segments]
    return "\n".join(lines) + "\n"


def _called(each: Heard) -> str:
    return shown(each.path) + ("" if each.channel is None else f" channel {each.channel}")


def write_json_records(heard: Sequence[Heard]) -> str:
    """One list of records, in ASCII: JSON whatever the encoding, and the bytes of a name that is no UTF-8 come back."""
    return json.dumps([_record(each) for each in heard], indent=1) + "\n"


def _record(each: Heard) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(each.path), "duration_s": round(each.duration_s, 6)}
    if each.problem:
        return {**record, "problem": each.problem}
    if each.channel is not None:
        record["channel"] = each.channel
    if each.note:
        record["note"] = each.note
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
    writer.writerow(
        ["path", "start_s", "end_s", "label", "score", "probability", "activity", "problem", "channel", "note"]
    )
    for each in heard:
        after = [_plain(each.problem), "" if each.channel is None else str(each.channel), _plain(each.note)]
        for cells in _cells(each):
            writer.writerow([_plain(str(each.path)), *cells, *after])
    return text.getvalue()


def _cells(each: Heard) -> list[list[str]]:
    """CELLS of each row of a recording."""
    end_s = f"{each.duration_s:.3f}"
    if each.problem:
        return [[""] * len(CELLS)]
    if each.decision is not None:
        label = "SPEECH" if each.decision.is_speech else "NONSPEECH"
        return [["0.000", end_s, label, f"{each.decision.score:.6f}", f"{each.decision.probability:.6f}", ""]]
    rows = [[f"{s.start_s:.3f}", f"{s.end_s:.3f}", "SPEECH", "", "", f"{s.activity:.6f}"] for s in each.segments]
    return rows or [["0.000", end_s, "NONSPEECH", "", "", ""]]


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (CWE-1236)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_rttm(heard: Sequence[Heard]) -> str:
    """SPEAKER lines of what `name_tokens` calls the recordings; a SPKR-INFO line for one that was read without speech.

    No comments: NIST allows them (;;), but most programs that read RTTM count the words of every line.
    """
    lines, names = [], name_tokens([each.path for each in heard])
    for each in heard:
        name, speech = f"{names[each.path]} {(each.channel or 0) + 1}", _speech(each)
        lines += [f"SPEAKER {name} {start:.3f} {end - start:.3f} <NA> <NA> speech <NA> <NA>" for start, end in speech]
        if not speech and not each.problem:
            lines.append(f"SPKR-INFO {name} <NA> <NA> <NA> unknown speech <NA> <NA>")
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


def name_tokens(paths: Sequence[Path]) -> Mapping[Path, str]:
    """The RTTM id of each recording: a name without white space, and quotes, at which some readers join lines."""
    return name_recordings(paths, lambda text: shown(re.sub(r'[\s"]', "_", text)))


def name_recordings(paths: Sequence[Path], written: Callable[[str], str] = str) -> Mapping[Path, str]:
    """A name for each recording, no two alike, upper and lower case aside.

    The stem; where several share it the file's whole name, then folders before either, as many as it takes to tell
    them apart below the folder of all: day1_rec, day2_rec. What is alike even then, such as `a b` and `a_b` as
    `written`, gets a number.
    """
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    root = os.path.commonpath([path.parent for path in absolute.values()]) if paths else ""
    longer = {path: [_cut(written(name)) for name in _ever_longer(place, root)] for path, place in absolute.items()}
    at = dict.fromkeys(longer, 0)
    while True:
        names = {path: choices[at[path]] for path, choices in longer.items()}
        n_called = Counter(name.casefold() for name in names.values())
        alike = [path for path, name in names.items() if n_called[name.casefold()] > 1]
        growing = [path for path in alike if at[path] + 1 < len(longer[path])]
        if not growing:
            break
        for path in growing:
            at[path] += 1
    taken = {name for name, n in n_called.items() if n == 1}
    for path in alike:
        *_, stem, _ = longer[path]
        numbered = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        names[path] = next(name for name in numbered if name.casefold() not in taken)
        taken.add(names[path].casefold())
    return names


def _ever_longer(path: Path, root: str) -> list[str]:
    """What a recording may be called, the shortest name first."""
    *folders, name = path.relative_to(root).parts
    before = ["".join(f"{folder}_" for folder in folders[len(folders) - n :]) for n in range(len(folders) + 1)]
    return [folder + end for folder in before for end in (path.stem, name)]


def _cut(name: str) -> str:
    """The end of a name, where its files differ most, as long as a disk takes it."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else encoded[-LONGEST_NAME:].decode("utf-8", errors="ignore")
