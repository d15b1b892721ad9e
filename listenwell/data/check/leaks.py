"""The leak gate: does any part of a study know what another part is tested on?

Every clip and background of every part (train, dev, test sets) is compared with those of all other parts:

    group, recording, origin, file     the same name in two parts, each in one pass over the tables
    lineage                            a clip cut from a recording that is itself a clip of another part
    samples                            the same sha256 of the decoded 16 kHz samples
    near duplicates                    changed copies, also inside backgrounds (`listenwell.data.check.near_duplicates`)

These are leaks. What contradicts itself without joining two parts is a warning: one sound under two labels, one
recording under two groups (a conversation, or one speaker under two names). A name shared by many sounds is one finding
for each two parts, not one for each pair, so large tables stay quick. Nothing is called clean that was not compared.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from typing import Any, TypeVar

from listenwell.data.check.near_duplicates import (
    BAND_HZ,
    BLOCK_SAMPLES,
    BLOCKS_COMPARED,
    CANDIDATE_PEAK,
    LEAST_SHARPNESS,
    NearDuplicate,
    Sound,
    SoundIndex,
    find_near_duplicates,
    index_sounds,
    list_sounds,
)
from listenwell.data.clip import LABELS, Background, Clip
from listenwell.progress import OnProgress, ignore_progress

T = TypeVar("T")
CLEAN, LEAKS, INCOMPLETE = "clean", "leaks", "incomplete"
SEARCH = {
    "block_samples": BLOCK_SAMPLES,
    "band_hz": list(BAND_HZ),
    "candidate_peak": CANDIDATE_PEAK,
    "least_sharpness": LEAST_SHARPNESS,
    "blocks_compared": BLOCKS_COMPARED,
}
_SAME_NAME: Mapping[str, Callable[[Sound], Hashable]] = {
    "same group": lambda sound: sound.group,
    "same recording": lambda sound: (sound.corpus, sound.recording) if sound.recording else "",
    "same origin": lambda sound: sound.origin,
    "same file": lambda sound: sound.path.as_posix(),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """Two sounds that have something in common; the first of their kind where several do.

    is_leak: False for a warning. value: what they share, a name or hash; their correlation for a near duplicate.
    """

    kind: str
    is_leak: bool
    part_a: str
    id_a: str
    part_b: str
    id_b: str
    evidence: str
    value: str | float


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was compared and what was found, leaks first.

    n_clips, n_backgrounds: by part. n_pairs: pairs of sounds compared by sound. unreadable: names of sounds that could
    not be read, which were compared by name only. search: the settings of the audio search.
    """

    findings: tuple[Finding, ...]
    n_clips: dict[str, int]
    n_backgrounds: dict[str, int]
    n_pairs: int
    unreadable: tuple[str, ...]
    search: dict[str, Any]

    @property
    def leaks(self) -> list[Finding]:
        """The findings that join two parts."""
        return [finding for finding in self.findings if finding.is_leak]

    @property
    def verdict(self) -> str:
        """LEAKS; else INCOMPLETE when a sound could not be read; else CLEAN."""
        if self.leaks:
            return LEAKS
        return INCOMPLETE if self.unreadable else CLEAN

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, the verdict first."""
        return {"verdict": self.verdict, "n_leaks": len(self.leaks), **asdict(self)}


def check_leaks(
    clips: Mapping[str, Sequence[Clip]],
    backgrounds: Mapping[str, Sequence[Background]],
    on_progress: OnProgress = ignore_progress,
) -> LeakReport:
    """Compare the clips and backgrounds of all parts (part -> records). Raises ManifestError for an empty group."""
    sounds = list_sounds(clips, backgrounds)
    everything = [sound for listed in sounds.values() for sound in listed]
    findings = [*find_shared_names(everything), *find_lineage(everything), *find_two_groups(everything)]
    indices = {part: index_sounds(listed, on_progress, f"listening to {part}") for part, listed in sounds.items()}
    findings += find_same_samples(indices.values())
    for one, other in combinations(indices, 2):
        stage = f"comparing {one} with {other}"
        pairs = find_near_duplicates(indices[one], indices[other], on_progress, stage)
        findings += [finding for pair in pairs for finding in _from_near_duplicate(pair)]
    for part, index in indices.items():
        speech = index.keep(lambda sound: sound.label == "SPEECH")
        nonspeech = index.keep(lambda sound: sound.label == "NONSPEECH")
        for pair in find_near_duplicates(speech, nonspeech, on_progress, f"comparing labels of {part}"):
            findings += _from_near_duplicate(pair)
    return LeakReport(
        tuple(sorted(findings, key=lambda finding: not finding.is_leak)),
        {part: sum(not sound.is_background for sound in listed) for part, listed in sounds.items()},
        {part: sum(sound.is_background for sound in listed) for part, listed in sounds.items()},
        sum(len(sounds[one]) * len(sounds[other]) for one, other in combinations(sounds, 2)),
        tuple(f"{index.sounds[i].name}: {why}" for index in indices.values() for i, why in index.unreadable.items()),
        SEARCH,
    )


def find_shared_names(sounds: Sequence[Sound]) -> Iterator[Finding]:
    """Yield a leak for every group, recording, origin or file that stands in two parts."""
    for kind, name_of in _SAME_NAME.items():
        for name, members in _by(name_of, sounds).items():
            yield from _across_parts(kind, members, str(name[-1] if isinstance(name, tuple) else name))


def find_two_groups(sounds: Sequence[Sound]) -> Iterator[Finding]:
    """Yield a finding for every recording that stands under two groups: a warning within a part, else a leak."""
    for members in _by(_SAME_NAME["same recording"], sounds).values():
        firsts = list({sound.group: sound for sound in reversed(members)}.values())
        for one, other in pairwise(firsts):
            yield _finding(
                "one recording, two groups",
                one,
                other,
                f"recording '{one.recording}' is under group '{one.group}' and under '{other.group}': two voices of "
                "one recording, or one voice under two names",
                one.recording,
                is_leak=one.part != other.part,
            )


def find_lineage(sounds: Sequence[Sound]) -> Iterator[Finding]:
    """Yield a leak for every clip whose recording is the file of a sound of another part.

    A recording names a file by its whole path, or by its end with at least one folder.
    """
    named = {sound.recording for sound in sounds if "/" in sound.recording}
    file_of: dict[str, Sound] = {}
    for sound in sounds:
        pieces = sound.path.as_posix().split("/")
        for end in ("/".join(pieces[-n_pieces:]) for n_pieces in range(2, len(pieces) + 1)):
            if end in named:
                file_of.setdefault(end, sound)
    for sound in sounds:
        if sound.recording in file_of:
            source = file_of[sound.recording]
            if source.part != sound.part and source.recording != sound.recording and source.path != sound.path:
                yield _finding(
                    "made from another part",
                    sound,
                    source,
                    f"{sound.name} was cut from '{sound.recording}', which is {source.name}",
                    sound.recording,
                )


def find_same_samples(indices: Iterable[SoundIndex]) -> Iterator[Finding]:
    """Yield a leak for every hash that stands in two parts, and a warning for every one under two labels."""
    hashed = [pair for index in indices for pair in zip(index.pcm_sha256, index.sounds, strict=True)]
    for sha256, pairs in _by(lambda pair: pair[0], hashed).items():
        members = [sound for _, sound in pairs]
        yield from _across_parts("same samples", members, str(sha256))
        labelled = {sound.label: sound for sound in reversed(members) if sound.label}
        if len(labelled) > 1:
            one, other = (labelled[label] for label in LABELS)
            yield _label_conflict(one, other, f"have the same samples (sha256 {str(sha256)[:16]}...)", str(sha256))


def _by(name_of: Callable[[T], Hashable], members: Iterable[T]) -> dict[Hashable, list[T]]:
    """Return the members of every name; those without a name are left out."""
    by_name: dict[Hashable, list[T]] = {}
    for member in members:
        if name := name_of(member):
            by_name.setdefault(name, []).append(member)
    return by_name


def _across_parts(kind: str, members: Sequence[Sound], value: str) -> Iterator[Finding]:
    """Yield one leak for every two parts that `members` stand in, naming the first sound of each."""
    by_part = _by(lambda sound: sound.part, members)
    what = kind.removeprefix("same ")
    for one, other in combinations(by_part, 2):
        counts = f"{len(by_part[one])} in {one}, {len(by_part[other])} in {other}"
        yield _finding(kind, by_part[one][0], by_part[other][0], f"{what} '{value}' is in both parts: {counts}", value)


def _from_near_duplicate(pair: NearDuplicate) -> Iterator[Finding]:
    """Yield a leak where the two are of two parts, and a warning where they have two labels."""
    one, other, value = pair.one, pair.other, pair.correlation.value
    shared = (
        f"share sound, the first one's start lying at {pair.shift_s:+.3f} s of the second (whitened correlation "
        f"{value:.2f}, {pair.correlation.sharpness:.0f} times its surroundings)"
    )
    if one.part != other.part:
        yield _finding("near duplicate", one, other, f"{one.name} and {other.name} {shared}", value)
    if one.label and other.label and one.label != other.label:
        yield _label_conflict(one, other, shared, value)


def _label_conflict(one: Sound, other: Sound, shared: str, value: str | float) -> Finding:
    evidence = f"{one.name} ({one.label}) and {other.name} ({other.label}) {shared}"
    return _finding("label conflict", one, other, evidence, value, is_leak=False)


def _finding(
    kind: str, one: Sound, other: Sound, evidence: str, value: str | float, *, is_leak: bool = True
) -> Finding:
    return Finding(kind, is_leak, one.part, one.sound_id, other.part, other.sound_id, evidence, value)
