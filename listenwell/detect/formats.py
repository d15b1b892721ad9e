"""What was detected, written for people and for the programs they use.

    table      lines for a terminal
    json       one list of records, with scores and probabilities
    csv        one row per clip or segment
    rttm       NIST's SPEAKER lines (RT-09 evaluation plan), speaker name "speech"; SPKR-INFO for a recording without
    audacity   Audacity's label track: start, end, label, separated by tabs
    textgrid   Praat's TextGrid, one interval tier
    srt, vtt   SubRip and WebVTT subtitles that say "speech"

Recordings decided whole are one segment from start to end, when they are SPEECH, from rttm on. What could not be read
stands in none of these, so that it is not taken for a recording without speech; the caller says why.
"""

import csv
import io
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from listenwell.detect.files import Detection

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""What breaks a line, steers a terminal, or is a byte of a name that is no UTF-8."""
HEAD = ("path", "start_s", "end_s", "label", "score", "probability", "activity", "problem", "channel", "note")
LONGEST_NAME = 200
"""Bytes of a name made from others; a file's may have 255."""


def shown(text: object) -> str:
    """The text on one line of UTF-8: control characters and bytes that are none are written escaped."""
    return CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(text))


def problem_line(one: Detection) -> str:
    """Why a recording could not be read, with its path."""
    return shown(one.problem if str(one.path) in one.problem else f"{one.path}: {one.problem}")


def write_table(detections: Sequence[Detection]) -> str:
    """Lines for a terminal."""
    lines = []
    names = [shown(one.path) + ("" if one.channel is None else f" channel {one.channel}") for one in detections]
    width = max((len(name) for name, one in zip(names, detections, strict=True) if one.decision), default=0)
    for name, one in zip(names, detections, strict=True):
        if one.problem:
            lines.append(f"{name}: not read: {shown(one.problem)}")
        elif one.decision is not None:
            says = f"{one.decision.label:9}  p = {one.decision.probability:.3f}  score {one.decision.score:+.2f}"
            lines.append(f"{name:<{width}}  {says}  {one.duration_s:.2f} s")
        else:
            total_s = sum(end_s - start_s for start_s, end_s in speech_of(one))
            lines.append(f"{name}  {total_s:.1f} of {one.duration_s:.1f} s are speech")
            lines += [f"  {_clock(s.start_s)} - {_clock(s.end_s)}  {s.activity:.2f}" for s in one.segments]
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{seconds % 60:05.2f}"


def write_json_records(detections: Sequence[Detection]) -> str:
    """One list of records, in ASCII: JSON whatever the encoding, and the bytes of a name that is no UTF-8 come back."""
    return json.dumps([_record(one) for one in detections], indent=1) + "\n"


def _record(one: Detection) -> dict[str, Any]:
    record: dict[str, Any] = {"path": str(one.path), "duration_s": round(one.duration_s, 6)}
    if one.problem:
        return {**record, "problem": one.problem}
    record |= {} if one.channel is None else {"channel": one.channel}
    record |= {"note": one.note} if one.note else {}
    if (decision := one.decision) is not None:
        says = {"label": decision.label, "score": decision.score, "probability": decision.probability}
        return {**record, **says}
    segments = [
        {"start_s": round(s.start_s, 6), "end_s": round(s.end_s, 6), "activity": s.activity} for s in one.segments
    ]
    return {**record, "segments": segments}


def write_csv(detections: Sequence[Detection]) -> str:
    """One row per clip, per segment, and per recording without speech or that could not be read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for one in detections:
        after = [_plain(one.problem), "" if one.channel is None else str(one.channel), _plain(one.note)]
        writer.writerows([_plain(str(one.path)), *cells, *after] for cells in _cells(one))
    return text.getvalue()


def _cells(one: Detection) -> list[list[str]]:
    """What stands between the path and the problem of each row: start to activity."""
    end_s = f"{one.duration_s:.3f}"
    if one.problem:
        return [[""] * 6]
    if one.decision is not None:
        decision = one.decision
        return [["0.000", end_s, decision.label, f"{decision.score:.6f}", f"{decision.probability:.6f}", ""]]
    rows = [[f"{s.start_s:.3f}", f"{s.end_s:.3f}", "SPEECH", "", "", f"{s.activity:.6f}"] for s in one.segments]
    return rows or [["0.000", end_s, "NONSPEECH", "", "", ""]]


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula (CWE-1236)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def write_rttm(detections: Sequence[Detection]) -> str:
    """SPEAKER lines of what `name_tokens` calls the recordings; a SPKR-INFO line for one that was read without speech.

    No comments: NIST allows them (;;), but most programs that read RTTM count the words of every line.
    """
    lines, names = [], name_tokens([one.path for one in detections])
    for one in detections:
        name, speech = f"{names[one.path]} {(one.channel or 0) + 1}", speech_of(one)
        lines += [f"SPEAKER {name} {start:.3f} {end - start:.3f} <NA> <NA> speech <NA> <NA>" for start, end in speech]
        if not speech and not one.problem:
            lines.append(f"SPKR-INFO {name} <NA> <NA> <NA> unknown speech <NA> <NA>")
    return "".join(f"{line}\n" for line in lines)


def write_audacity(detections: Sequence[Detection]) -> str:
    """A label track, of one recording."""
    return "".join(f"{start_s:.6f}\t{end_s:.6f}\tspeech\n" for start_s, end_s in speech_of(*detections))


def write_srt(detections: Sequence[Detection]) -> str:
    """SubRip subtitles, of one recording; every stretch of speech says "speech"."""
    return "".join(f"{number}\n{cue}" for number, cue in enumerate(_cues(detections, ","), start=1))


def write_vtt(detections: Sequence[Detection]) -> str:
    """WebVTT, of one recording; every stretch of speech says "speech"."""
    return "".join(["WEBVTT\n\n", *_cues(detections, ".")])


def _cues(detections: Sequence[Detection], point: str) -> Iterator[str]:
    for stretch in speech_of(*detections):
        clocks = []
        for seconds in stretch:
            whole, ms = divmod(round(1000 * seconds), 1000)
            clocks.append(f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{point}{ms:03d}")
        yield f"{' --> '.join(clocks)}\nspeech\n\n"


def write_textgrid(detections: Sequence[Detection]) -> str:
    """A TextGrid with the tier "speech", of one recording; stretches without speech are empty intervals."""
    (one,) = detections
    intervals: list[tuple[float, float, str]] = []
    at_s = 0.0
    for start_s, end_s in speech_of(one):
        if start_s > at_s:
            intervals.append((at_s, start_s, ""))
        intervals.append((start_s, end_s, "speech"))
        at_s = end_s
    if at_s < one.duration_s or not intervals:
        intervals.append((at_s, one.duration_s, ""))
    lines = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {one.duration_s:.6f}",
        "tiers? <exists>", "size = 1", "item []:", "    item [1]:", '        class = "IntervalTier"',
        '        name = "speech"', "        xmin = 0", f"        xmax = {one.duration_s:.6f}",
        f"        intervals: size = {len(intervals)}",
    ]  # fmt: skip
    for number, (start_s, end_s, text) in enumerate(intervals, start=1):
        lines += [f"        intervals [{number}]:", f"            xmin = {start_s:.6f}"]
        lines += [f"            xmax = {end_s:.6f}", f'            text = "{text}"']
    return "\n".join(lines) + "\n"


def speech_of(one: Detection) -> list[tuple[float, float]]:
    """Start and end of every stretch of speech, in seconds."""
    if one.decision is not None:
        return [(0.0, one.duration_s)] if one.decision.is_speech else []
    return [(segment.start_s, segment.end_s) for segment in one.segments]


FORMATS: Mapping[str, Callable[[Sequence[Detection]], str]] = {
    "table": write_table,
    "json": write_json_records,
    "csv": write_csv,
    "rttm": write_rttm,
    "audacity": write_audacity,
    "textgrid": write_textgrid,
    "srt": write_srt,
    "vtt": write_vtt,
}
ONE_EACH: Mapping[str, str] = {"audacity": ".txt", "textgrid": ".TextGrid", "srt": ".srt", "vtt": ".vtt"}
"""Formats that hold one recording, and the suffix of their files."""


def name_tokens(paths: Sequence[Path]) -> Mapping[Path, str]:
    """The RTTM id of each recording: a name without white space, and quotes, at which some readers join lines."""
    return name_recordings(paths, lambda text: shown(re.sub(r'[\s"]', "_", text)))


def name_recordings(paths: Sequence[Path], written: Callable[[str], str] = str) -> Mapping[Path, str]:
    """A name for each recording, no two alike, upper and lower case aside.

    The stem; where several share it the folders below that of all before it: day1_rec, day2_rec.
    What is alike even then, such as `a b` and `a_b` as `written`, gets a number.
    """
    absolute = {path: Path(os.path.abspath(path)) for path in paths}
    root = os.path.commonpath([path.parent for path in absolute.values()]) if paths else ""
    stems = {path: _cut(written(path.stem)) for path in paths}
    n_called = Counter(stem.casefold() for stem in stems.values())
    names: dict[Path, str] = {}
    taken = {stem for stem, n in n_called.items() if n == 1}
    for path, stem in stems.items():
        if n_called[stem.casefold()] > 1:
            whole = _cut(written("_".join([*absolute[path].relative_to(root).parts[:-1], path.stem])))
            numbered = itertools.chain([whole], (f"{whole}_{number}" for number in itertools.count(2)))
            stem = next(name for name in numbered if name.casefold() not in taken)
            taken.add(stem.casefold())
        names[path] = stem
    return names


def _cut(name: str) -> str:
    """The end of a name, where its files differ most, as long as a disk takes it."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else encoded[-LONGEST_NAME:].decode("utf-8", errors="ignore")
