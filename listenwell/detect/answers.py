"""Where answers go: one file for all recordings, or one for each, and each one's stretches of speech as sound files.

    out.json                        json, csv, rttm, table
    out/NAME.srt                    formats of one recording each; out.srt where there is one recording
    cut/NAME/12.250-15.500.wav      speech from 12.25 s to 15.5 s, 16 bit, at the recording's own rate

Recordings are called as `listenwell.detect.formats.name_recordings` says.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from listenwell.data.decoding import block_frames, open_recording
from listenwell.detect.files import Detection
from listenwell.detect.formats import FORMATS, ONE_EACH, name_tokens, problem_line, shown, speech_of
from listenwell.detect.recordings import BLOCK_S
from listenwell.errors import ConfigError
from listenwell.storage.atomic_files import atomic_folder, write_bytes


@dataclass(frozen=True, slots=True)
class Answers:
    """names: of all recordings. print_text: onto standard output, where out is None. cut: None where no sound goes."""

    form: str
    names: Mapping[Path, str]
    print_text: Callable[[str], None]
    out: Path | None = None
    cut: Path | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError where the format is one file per recording and there is no folder for several."""
        if self.form in ONE_EACH and len(self.names) > 1 and (not self.in_folder or (self.out and self.out.is_file())):
            raise ConfigError(
                f"--format {self.form} is one file per recording: give --out a folder for {len(self.names)} of them."
            )
        if self.cut is not None and (streams := [path for path in self.names if not path.is_file()]):
            raise ConfigError(f"--cut: {streams[0]} can be decoded once only, so it cannot be cut; give a file.")

    @property
    def in_folder(self) -> bool:
        """Whether out is a folder of answers: not where it is the only one, such as meeting.srt."""
        if self.form not in ONE_EACH or self.out is None:
            return False
        return len(self.names) > 1 or self.out.suffix.lower() != ONE_EACH[self.form].lower()

    def file_of(self, path: Path) -> Path | None:
        """Where the answer of a recording goes, None for standard output."""
        return self.out / f"{self.names[path]}{ONE_EACH[self.form]}" if self.out and self.in_folder else self.out

    def folder_of(self, path: Path) -> Path | None:
        """Where the speech of a recording goes, None where none is written."""
        return None if self.cut is None else self.cut / self.names[path]

    def are_there(self, path: Path) -> bool:
        """Whether all that is written for this recording alone is there."""
        alone = [self.folder_of(path), self.file_of(path) if self.form in ONE_EACH else None]
        return any(alone) and all(place.exists() for place in alone if place is not None)

    def write(self, of_one: Sequence[Detection], channel: int | None) -> None:
        """Write what is written for one recording alone, from its detections: one for each channel decided.

        channel: the one of several that was decided, None for their mean.
        """
        path = of_one[0].path
        if any(one.problem for one in of_one):
            return
        if self.form in ONE_EACH:
            self._put(self.file_of(path), FORMATS[self.form](of_one))
        if (folder := self.folder_of(path)) is not None:
            with atomic_folder(folder) as temporary:
                for one in of_one:
                    cut_speech(one, temporary, channel if one.channel is None else one.channel)

    def write_together(self, detections: Sequence[Detection]) -> None:
        """Write the one answer of all; say on standard error what is called otherwise, what to know, what lacks."""
        if self.form not in ONE_EACH:
            self._put(self.out, FORMATS[self.form](detections))
        names: Mapping[Path, str] = self.names if self.in_folder or self.cut else {}
        names = name_tokens([one.path for one in detections]) if self.form == "rttm" else names
        for one in detections:
            if one.problem:
                print(f"listenwell: {problem_line(one)}", file=sys.stderr)
            elif one.path in names and shown(names[one.path]) != shown(one.path.stem):
                print(
                    f"listenwell: {shown(one.path)}: is called {shown(names[one.path])} in the answer", file=sys.stderr
                )
            if one.note:
                print(f"listenwell: {shown(one.path)}: {shown(one.note)}", file=sys.stderr)

    def _put(self, path: Path | None, text: str) -> None:
        """Write to the file, or to standard output; bytes of a name that is no UTF-8 are written escaped."""
        if path is None:
            self.print_text(text)
        else:
            write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def cut_speech(one: Detection, folder: Path, channel: int | None) -> None:
    """Write every stretch of speech as a file into `folder`: one channel, or all of them. Memory is one block."""
    prefix = "" if one.channel is None else f"channel{one.channel}_"
    with open_recording(one.path) as recording:
        blocks = recording.blocks(0, block_frames(recording, BLOCK_S))
        taken = slice(None) if channel is None else slice(channel, channel + 1)
        n_channels = recording.n_channels if channel is None else 1
        block, at = np.empty((0, recording.n_channels), dtype=np.float32), 0
        for start_s, end_s in speech_of(one):
            first, last = round(start_s * recording.rate_hz), round(end_s * recording.rate_hz)
            file = folder / f"{prefix}{start_s:.3f}-{end_s:.3f}.wav"
            with soundfile.SoundFile(file, "w", recording.rate_hz, n_channels, "PCM_16") as written:
                while True:
                    written.write(block[max(0, first - at) : max(0, last - at), taken])
                    if at + len(block) >= last or (following := next(blocks, None)) is None:
                        break
                    block, at = following, at + len(block)
