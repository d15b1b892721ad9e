"""How a report says things: names of methods and conditions, numbers, intervals, counts, verdicts.

Balanced accuracy, its intervals and differences have three digits behind the point, "0.971 [0.943, 0.988]" and
"+0.052 [+0.020, +0.084]", with the typographic minus.
"""

import re
import unicodedata
from typing import Literal

from listenwell.augment.conditions import match_condition
from listenwell.augment.recording import Band
from listenwell.evaluate.methods import NOISY
from listenwell.report.results import CLEAN, FINE_TUNED, ZERO_SHOT

Verdict = Literal["better", "worse", "cannot tell"]
LEAST_WIDTH = 1e-9
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
NOTHING = DASH
METHOD_TITLES = {
    ZERO_SHOT: "Base model, zero-shot",
    FINE_TUNED: "Fine-tuned model",
    "silero": "Silero VAD",
    "webrtc": "WebRTC VAD",
}
BELOW_CHANCE = {
    "webrtc": "it tells activity from silence by the energy of six bands, and other sounds are often active throughout "
    "while speech pauses",
}
"""Why a method may rank other sounds above speech."""


def verdict_of(low: float, high: float) -> Verdict:
    """What the 95 % interval of a difference allows to say: never "equal".

    An interval without width says nothing: it comes of few groups that happened to gain alike.
    """
    if high - low < LEAST_WIDTH:
        return "cannot tell"
    if low > 0:
        return "better"
    return "worse" if high < 0 else "cannot tell"


def method_title(method: str) -> str:
    """What a method is called in the report."""
    return METHOD_TITLES[method] if method in METHOD_TITLES else method


def part_title(part: str) -> str:
    """What a part of the data is called: "sealed_test" is "sealed test"."""
    return part.replace("_", " ")


def condition_title(condition: str) -> str:
    """What a condition is called in the report: "snr_-5" is "-5 dB", "100ms" is "100 ms"."""
    found = match_condition(condition)
    if found is None:
        return condition or "as recorded"
    if found.snr_db is not None:
        return f"{found.snr_db:g} dB".replace("-", MINUS)
    if found.duration_ms is not None:
        return f"{found.duration_ms} ms"
    if found.t60_s is not None:
        return f"T60 {found.t60_s:g} s"
    return condition if found.band is None else _band_title(found.band)


def _band_title(band: Band) -> str:
    if band.low_hz is None:
        return f"below {band.high_hz:g} Hz"
    return f"above {band.low_hz:g} Hz" if band.high_hz is None else f"{band.low_hz:g}{DASH}{band.high_hz:g} Hz"


def condition_phrase(condition: str) -> str:
    """A condition inside a sentence."""
    return (
        {CLEAN: "on clean clips", NOISY: "in noise"}[condition]
        if condition in (CLEAN, NOISY)
        else (f"at {condition_title(condition)}")
    )


def count_phrase(n_clips: int, n_groups: int) -> str:
    """Clips and groups a number rests on: "110 clips, 30 groups"."""
    return f"{n_clips} clip{'' if n_clips == 1 else 's'}, {n_groups} group{'' if n_groups == 1 else 's'}"


def format_number(value: float) -> str:
    """A share or an AUC: "0.971"."""
    return f"{value:.3f}".replace("-", MINUS)


def format_interval(low: float, high: float) -> str:
    """The interval of a share: "[0.943, 0.988]"."""
    return f"[{format_number(low)}, {format_number(high)}]"


def format_difference(value: float) -> str:
    """A difference of two shares: "+0.052", and "0.000" without a sign."""
    text = f"{value:+.3f}".replace("-", MINUS)
    return "0.000" if text[1:] == "0.000" else text


def format_difference_interval(low: float, high: float) -> str:
    """The interval of a difference: "[+0.020, +0.084]"."""
    return f"[{format_difference(low)}, {format_difference(high)}]"


def format_count_difference(value: int) -> str:
    """A difference of two counts: "+3", and "0" without a sign."""
    return f"{value:+d}".replace("-", MINUS) if value else "0"


def format_p(p_value: float) -> str:
    """A p value with its sign: "= 0.031", "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def format_threshold(value: float) -> str:
    """A threshold, in the unit of its method's scores."""
    return f"{value:.4g}".replace("-", MINUS)


def format_score(value: float) -> str:
    """A score, or how far it lies beyond a threshold: "-3.62"."""
    return f"{value:.2f}".replace("-", MINUS)


def plain_sentence(sentence: str) -> str:
    """A sentence of the evidence as print has it: "balanced_accuracy" in two words, "+-" and "-" as ± and minus."""
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, sentence.replace("_", " ").replace("+-", "±"))


def show_signs(text: str) -> str:
    """Return `text` with every sign that acts but is not seen written out, as "[U+202E]".

    Controls, direction marks and invisible signs of a name from a user's file could otherwise turn round or hide what
    stands beside it. White space stays, and so do the joiners that some scripts need.
    """
    return "".join(f"[U+{ord(sign):04X}]" if _acts_unseen(sign) else sign for sign in text)


def _acts_unseen(sign: str) -> bool:
    if sign in "\t\n\r\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}":
        return False
    return unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")
