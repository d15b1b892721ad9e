"""Utterances of lhotse's cuts and of Kaldi's data folders become clips.

    lhotse     a manifest of cuts (*.jsonl, *.jsonl.gz): every supervision, through the extra `lhotse`
    Kaldi      wav.scp and, where they are, segments and utt2spk; `labels` (utterance, label) or `text`; runs no command
               and opens no archive

A text is the label it names ("noise", "<noise>"), tags alone are left out, and any other is a transcript: SPEECH. The
speaker is the group, or else the recording. Where utterances of two groups or labels overlap, nothing is taken; a long
stretch gives some of its clips, as in `listenwell.data.corpora.labels`. Utterances below SHORTEST_UTTERANCE_S are no
clips. Times are seconds from the recording's start.
"""

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from listenwell.data.clip import Clip, Label
from listenwell.data.corpora.corpus import SHORTEST_S, Prepared, read_lengths
from listenwell.data.corpora.labels import label_of, pieces
from listenwell.data.corpora.voxconverse import Span, merge_spans, subtract_spans
from listenwell.data.tables import LABEL_WORDS, MISSING_VALUES, read_json_lines
from listenwell.errors import ConfigError, ManifestError
from listenwell.progress import ignore_progress

WAV_SCP = "wav.scp"
_CUTS = {"MonoCut", "MultiCut", "MixedCut", "PaddingCut"}
_ARCHIVE = re.compile(r".+:\d+(\[.*\])?")
_TAGS = re.compile(r"(?:[<\[(][^>\])]*[>\])]\W*)+")
_TAG = re.compile(r"[<\[(]([^>\])]*)[>\])]")
_SILENCE = {"sil", "!sil", "silence"}
SHORTEST_UTTERANCE_S = 0.1
"""Kaldi's extract-segments rejects shorter ones."""
N_NAMED = 5
_NO_FILE = (
    "cuts are mixed, padded, changed, or no stretches of files (write them as such with CutSet.save_audios, and the "
    "manifest of what it returns)"
)


@dataclass(frozen=True, slots=True)
class Utterance:
    """A labelled stretch of a recording; channel as in Clip."""

    name: str
    recording: str
    path: Path
    channel: int | None
    span: Span
    label: Label
    group: str


def is_cuts(source: Path) -> bool:
    """Tell whether `source` is a manifest of lhotse's cuts, by its first line."""
    if ".jsonl" not in source.suffixes or not source.is_file():
        return False
    return next((values.get("type") in _CUTS and "id" in values for _, values in read_json_lines(source)), False)


def read_cuts(manifest: Path) -> Prepared:
    """Return the clips of a manifest of cuts. Raises ConfigError where lhotse is not installed."""
    try:
        from lhotse import CutSet
    except ImportError as error:
        raise ConfigError(
            f"{manifest}: reading it needs lhotse, which is not installed; run pip install 'listenwell[lhotse]'."
        ) from error
    utterances, left_out = list[Utterance](), Counter[str]()
    for cut in _cuts_of(CutSet, manifest):
        recording = getattr(cut, "recording", None)
        if recording is None or recording.transforms or {source.type for source in recording.sources} != {"file"}:
            left_out[_NO_FILE] += 1
            continue
        for supervision in cut.supervisions:
            label = _label_of_supervision(supervision)
            if label is None:
                left_out["supervisions name no label"] += 1
            else:
                utterances.append(_utterance_of(manifest, cut, supervision, label))
    return _prepare(utterances, "lhotse", left_out)


def _cuts_of(cut_set: Any, manifest: Path) -> Iterator[Any]:
    """The cuts of a manifest. Raises ManifestError where lhotse cannot read it."""
    try:
        yield from cut_set.from_file(manifest)
    except Exception as error:  # what it raises for a broken manifest is of many kinds
        raise ManifestError(f"{manifest}: lhotse cannot read it ({error}); write the manifest again.") from error


def _label_of_supervision(supervision: Any) -> Label | None:
    """By its custom field `label`, else its text; one that names a speaker only is SPEECH."""
    if "label" in (supervision.custom or {}):
        return label_of(str(supervision.custom["label"]))
    if supervision.text:
        return _label_of_text(supervision.text)
    return "SPEECH" if supervision.speaker else None


def _utterance_of(manifest: Path, cut: Any, supervision: Any, label: Label) -> Utterance:
    """The stretch of a supervision that lies within its cut."""
    recording, channel = cut.recording, supervision.channel
    channel = channel if isinstance(channel, int) else channel[0]
    source = next((source for source in recording.sources if channel in source.channels), None)
    if source is None:
        raise ManifestError(f"{manifest}: supervision '{supervision.id}' names channel {channel}, which no source has.")
    place = source.channels.index(channel) if len(source.channels) > 1 else None
    path, group = _found_from(manifest.parent, source.source), supervision.speaker or recording.id
    span = cut.start + max(0.0, supervision.start), cut.start + min(supervision.end, cut.duration)
    return Utterance(supervision.id, recording.id, path, place, span, label, group)


def read_kaldi(folder: Path) -> Prepared:
    """Return the clips of a data folder of Kaldi. Raises ManifestError for what is missing, and what is no file."""
    texts = next((folder / name for name in ("labels", "text") if (folder / name).is_file()), None)
    if texts is None:
        raise ManifestError(f"{folder}: has no file 'labels' (UTTERANCE speech or nonspeech) and no 'text'; write one.")
    recordings, speakers = _read_pairs(folder / WAV_SCP), _read_pairs(folder / "utt2spk")
    for name, source in recordings.items():
        what = "what a command prints, and none is run" if source.endswith("|") else ""
        if _ARCHIVE.fullmatch(source) and not _found_from(folder, source).exists():
            what = "in an archive, and none is opened"
        if what:
            raise ManifestError(
                f"{folder / WAV_SCP}: '{name}' is {what} ({source}); write it as a file (Kaldi: wav-copy "
                f"{shlex.quote(source)} {shlex.quote(f'{name}.wav')}) and name that file there."
            )
    for name, speaker in speakers.items():
        if speaker.lower() in MISSING_VALUES:
            raise ManifestError(f"{folder / 'utt2spk'}: the speaker of '{name}' is '{speaker}'; name it.")
    segments = {name: _segment(folder, name, text) for name, text in _read_pairs(folder / "segments").items()}
    utterances, named, left_out = list[Utterance](), list[str](), Counter[str]()
    for name, text in _read_pairs(texts).items():
        label = _label_of_word(text) if texts.name == "labels" else _label_of_transcript(text)
        recording, span, channel = segments.get(name, (name, (0.0, math.inf), None))
        if label is None or recording not in recordings:
            left_out["utterances name no label" if label is None else f"utterances are in no line of {WAV_SCP}"] += 1
            continue
        named.append(name)
        path = _found_from(folder, recordings[recording])
        utterances.append(Utterance(name, recording, path, channel, span, label, speakers.get(name, recording)))
    unnamed = sum(name not in speakers for name in named) if speakers else 0
    notes = [f"{unnamed} utterances are not in utt2spk; their recording is the group."] if unnamed else []
    return _prepare(utterances, "kaldi", left_out, notes)


def _segment(folder: Path, name: str, text: str) -> tuple[str, Span, int | None]:
    """Recording, span and channel of a line of `segments`; an end of -1 is the recording's. Raises ManifestError."""
    try:
        recording, start, end, *channel = text.split()
        span = float(start), math.inf if float(end) == -1 else float(end)
        if not 0 <= span[0] <= span[1]:
            raise ValueError("it ends before it begins")
        if len(channel) > 1 or not all(map(str.isdecimal, channel)):
            raise ValueError("its channel is no number from 0")
        return recording, span, int(channel[0]) if channel else None
    except ValueError as error:
        raise ManifestError(
            f"{folder / 'segments'}: '{name} {text}' is not UTTERANCE RECORDING START END [CHANNEL]."
        ) from error


def _read_pairs(path: Path) -> dict[str, str]:
    """First word -> the rest, of every line; nothing of a file that is not there. Raises ManifestError.

    Lines end at a line feed alone: a transcript may hold what Unicode also calls the end of a line.
    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").split("\n") if path.is_file() else []
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: is no UTF-8 text, which Kaldi's files are; convert it.") from error
    pairs = dict[str, str]()
    for number, line in enumerate(lines, start=1):
        first, *rest = line.split(maxsplit=1) or [""]
        if first in pairs:
            raise ManifestError(f"{path} line {number}: '{first}' already stands above; remove one of the lines.")
        if first:
            pairs[first] = rest[0].strip() if rest else ""
    return pairs


def _label_of_word(text: str) -> Label | None:
    """The label that a word names, as a folder or a table would say it."""
    return label_of(text) or LABEL_WORDS.get(re.sub(r"[\W_]+", "", text.lower()))


def _label_of_transcript(text: str) -> Label | None:
    """SPEECH of bare words; of tags alone the one label that all of them name; None of silence."""
    if not text or text.lower() in _SILENCE:
        return None
    if not _TAGS.fullmatch(text):
        return "SPEECH"
    labels = {label_of(tag) for tag in _TAG.findall(text)}
    return labels.pop() if len(labels) == 1 else None


def _label_of_text(text: str) -> Label | None:
    """The label that a text names; None of tags, SPEECH of a transcript."""
    if named := label_of(text.strip("<>[]() ")):
        return named
    return None if not text.strip() or _TAGS.fullmatch(text.strip()) else "SPEECH"


def _found_from(folder: Path, name: str) -> Path:
    """The file that is named from the working directory, as these tools do, or else from the manifest's folder."""
    return (Path(name) if Path(name).exists() else folder / name).absolute()


def _prepare(
    utterances: Sequence[Utterance], corpus: str, left_out: Mapping[str, int], known: Sequence[str] = ()
) -> Prepared:
    """The clips of utterances of all recordings; left_out: what else stood there, and how often; known: notes so far.

    A file that two recordings name is one signal, called by the first of them.
    """
    lengths_s, quarantine = read_lengths(sorted({u.path for u in utterances}), ignore_progress, 1.0)
    utterances = [u for u in utterances if u.path in lengths_s]
    by_signal: dict[tuple[Path, int | None], list[Utterance]] = {}
    for utterance in utterances:
        by_signal.setdefault((utterance.path, utterance.channel), []).append(utterance)
    clips, overlap_s = list[Clip](), 0.0
    for (path, channel), of_signal in by_signal.items():
        recording = of_signal[0].recording
        name = recording if channel is None else f"{recording}#{channel}"
        for label, group, alone, other_s in _alone(of_signal, lengths_s[path]):
            overlap_s += other_s
            for start_s, duration_s in pieces(alone):
                clip_id = f"{name}@{round(1000 * start_s)}-{round(1000 * (start_s + duration_s))}"
                told = (clip_id, path, start_s, duration_s, label, group, recording, corpus, "")
                clips.append(Clip(*told, channel=channel))
    notes = [*known, *(f"{n} {what} and were left out." for what, n in left_out.items())]
    begun = [u for u in utterances if u.span[0] < lengths_s[u.path]]
    if n_beyond := len(utterances) - len(begun):
        notes.append(f"{n_beyond} utterances begin after the end of their recording and were left out.")
    if short := [u.name for u in begun if not _is_clip((u.span[0], min(u.span[1], lengths_s[u.path])))]:
        named = ", ".join([*short[:N_NAMED], *["..."] * (len(short) > N_NAMED)])
        notes.append(f"{len(short)} utterances are shorter than {SHORTEST_UTTERANCE_S} s and were left out: {named}.")
    if overlap_s:
        notes.append(f"{overlap_s:.1f} s of utterances overlap others' and were left out.")
    if quarantine:
        notes.append(f"{len(quarantine)} recordings cannot be read, the first: {quarantine[0].reason}")
    if not clips:
        raise ManifestError(f"no utterance can be used; {' '.join(notes) or 'there are none'}")
    return Prepared(clips, quarantine=quarantine, notes=notes)


def _alone(utterances: Sequence[Utterance], length_s: float) -> Iterator[tuple[Label, str, list[Span], float]]:
    """By label and group, the spans of one signal where nothing else is said to be, and how much (s) lies elsewhere."""
    spans: dict[tuple[Label, str], list[Span]] = {}
    for u in utterances:
        spans.setdefault((u.label, u.group), []).append((u.span[0], min(u.span[1], length_s)))
    for key, own in spans.items():
        # a short one is no clip, but overlaps those of others
        others = merge_spans([span for other, of_other in spans.items() if other != key for span in of_other])
        whole = merge_spans([span for span in own if _is_clip(span)])
        # what is left between two others is no utterance
        alone = [span for span in subtract_spans(whole, others) if span in {*whole} or span[1] - span[0] >= SHORTEST_S]
        yield *key, alone, _total_s(whole) - _total_s(alone)


def _is_clip(span: Span) -> bool:
    return span[1] - span[0] >= SHORTEST_UTTERANCE_S - 1e-9


def _total_s(spans: Sequence[Span]) -> float:
    return sum(end_s - start_s for start_s, end_s in spans)
