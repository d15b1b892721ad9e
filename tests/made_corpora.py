"""Miniature corpora with the layouts of the public ones, odd cases included: names with spaces, 24 bit, stereo, other
rates, a recording that is cut off, overlapping turns, empty lines. Sounds are seconds of quiet noise."""

from pathlib import Path

import numpy as np
import soundfile

from listenwell.random_streams import stream


def record(
    path: Path, seconds: float, rate_hz: int = 16_000, channels: int = 1, subtype: str = "PCM_16", cut: bool = False
) -> Path:
    """Write noise of its own; `cut` removes the second half of the finished file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.05 * stream(0, path.name).standard_normal((round(seconds * rate_hz), channels))
    soundfile.write(path, samples.astype(np.float32), rate_hz, subtype=subtype)
    if cut:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def write_lines(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_musan(folder: Path) -> Path:
    """Music of two artists (one track with vocals, one without annotation), noises, speech of two books."""
    for i in range(4):
        record(folder / f"music/fma/music-fma-000{i}.wav", 3.0)
    write_lines(
        folder / "music/fma/ANNOTATIONS",
        "music-fma-0000 blues Y Cullah",
        "music-fma-0001 pop,electronica N Quiet_Music_for_Tiny_Robots ",
        "",
        "music-fma-0002 pop,electronica N Quiet_Music_for_Tiny_Robots",
    )
    write_lines(
        folder / "music/fma/LICENSE",
        "music-fma-0000",
        '"Cold Wind" (by Cullah)',
        "http://freemusicarchive.org/music/Cullah/",
        "CC BY-SA 3.0",
        "=" * 40,
        "music-fma-0001.wav",
        '"Bits" (by Quiet Music for Tiny Robots)',
        "CC BY 4.0",
    )
    for i in range(3):
        record(folder / f"noise/free-sound/noise-free-sound-000{i}.wav", 12.0 if i == 0 else 2.0)
    write_lines(folder / "noise/free-sound/LICENSE", "All selected recordings were marked as in the Public Domain")
    record(folder / "noise/sound-bible/noise-sound-bible-0000.wav", 2.0, subtype="PCM_24")
    write_lines(
        folder / "noise/sound-bible/LICENSE",
        "noise-sound-bible-0000",
        "https://freesound.org/people/someone/sounds/100032/",
        "CC BY 3.0",
    )
    for i in range(3):
        record(folder / f"speech/librivox/speech-librivox-000{i}.wav", 20.0 if i == 0 else 4.0)
    write_lines(
        folder / "speech/librivox/ANNOTATIONS",
        "speech-librivox-0000 m english",
        "speech-librivox-0001 f german",
        "speech-librivox-0002 f german",
    )
    write_lines(
        folder / "speech/librivox/LICENSE",
        "speech-librivox-0000",
        "https://librivox.org/reader/84",
        "Public Domain",
        "speech-librivox-0001",
        "https://librivox.org/faust-by-goethe/",
        "Public Domain",
    )
    return folder


ESC50_ROWS = (
    "1-100032-A-0.wav,1,0,dog,True,100032,A",
    "1-100032-B-0.wav,1,0,dog,True,100032,B",
    "2-200001-A-24.wav,2,24,coughing,False,200001,A",
    "3-300001-A-26.wav,3,26,laughing,False,300001,A",
    "4-400001-A-10.wav,4,10,rain,True,400001,A",
)


def make_esc50(folder: Path, *rows: str) -> Path:
    """The official table and its five-second files at 44.1 kHz, one of them stereo."""
    chosen = rows or ESC50_ROWS
    write_lines(folder / "meta/esc50.csv", "filename,fold,target,category,esc10,src_file,take", *chosen)
    for i, row in enumerate(chosen):
        record(folder / "audio" / row.split(",")[0], 5.0, 44_100, channels=2 if i == 0 else 1)
    return folder


def speaker(file: str, start_s: float, length_s: float, label: str) -> str:
    return f"SPEAKER {file} 1 {start_s:.2f} {length_s:.2f} <NA> <NA> {label} <NA> <NA>"


def make_voxconverse(folder: Path) -> Path:
    """Dev: two recordings whose speakers have the same labels, with overlaps; test: one recording."""
    record(folder / "audio/abjxc.wav", 30.0)
    record(folder / "audio/ahnss.wav", 20.0)
    record(folder / "voxconverse_test_wav/aepyx.wav", 10.0)
    write_lines(
        folder / "voxconverse-main/dev/abjxc.rttm",
        speaker("abjxc", 0.0, 6.0, "spk00"),
        speaker("abjxc", 5.0, 4.0, "spk01"),
        "",
        speaker("abjxc", 9.5, 15.0, "spk00"),
        speaker("abjxc", 15.0, 1.0, "spk02"),
        speaker("abjxc", 29.0, 5.0, "spk01"),
    )
    write_lines(folder / "voxconverse-main/dev/ahnss.rttm", speaker("ahnss", 1.0, 18.0, "spk00"))
    write_lines(folder / "voxconverse-main/test/aepyx.rttm", speaker("aepyx", 0.0, 9.0, "spk00"))
    return folder


def make_rirs(folder: Path) -> Path:
    """Two simulated rooms and a real one, of several channels."""
    lines = []
    for i in (1, 2):
        record(folder / f"simulated_rirs/smallroom/Room00{i}/Room00{i}-00001.wav", 1.0)
        where = f"RIRS_NOISES/simulated_rirs/smallroom/Room00{i}/Room00{i}-00001.wav"
        lines.append(f"--rir-id Room00{i}-00001 --room-id Room00{i} {where}")
    write_lines(folder / "simulated_rirs/smallroom/rir_list", *lines, "")
    real = folder / "real_rirs_isotropic_noises"
    record(real / "RVB2014_type1_rir_largeroom1_far_angla.wav", 1.0, channels=8)
    write_lines(
        real / "rir_list",
        "--rir-id 00001 --room-id RVB2014_largeroom1 --receiver-position-id 1 --probability 0.5 "
        "RIRS_NOISES/real_rirs_isotropic_noises/RVB2014_type1_rir_largeroom1_far_angla.wav",
    )
    return folder
