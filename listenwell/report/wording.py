"""How a report says things: names of methods and conditions, numbers, intervals, counts, verdicts.

Balanced accuracy, its intervals and differences have three digits behind the point, "0.971 [0.943, 0.988]" and
"+0.052 [+0.020, +0.084]", with the typographic minus; thresholds (THRESHOLD) have four, scores (SCORE) two behind it.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from listenwell.augment.conditions import CLEAN, match_condition
from listenwell.augment.recording import Band
from listenwell.evaluate.comparison import Outcome, PairedDifference
from listenwell.evaluate.intervals import Metric
from listenwell.evaluate.methods import FINE_TUNED, NOISY, ZERO_SHOT

VERDICTS = {"better": "Yes", "worse": "No, worse", "cannot tell": "Cannot tell"}
MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
THRESHOLD, SCORE = ".4g", ".2f"
METHOD_TITLES = {
    ZERO_SHOT: "Base model",
    FINE_TUNED: "Fine-tuned model",
    "silero": "Silero VAD",
    "fsmn": "FSMN-VAD",
    "marblenet": "MarbleNet",
    "webrtc": "WebRTC VAD",
}
BELOW_CHANCE = {
    "webrtc": "it tells activity from silence by the energy of six bands, and other sounds are often active throughout "
    "while speech pauses",
}
"""Why a method may rank other sounds above speech."""


def summarise(outcomes: Mapping[str, Outcome]) -> str:
    """In a few words what differences say; outcomes: by condition."""
    verdicts = list(dict.fromkeys(outcomes.values()))
    if len(verdicts) == 1:
        return f"{VERDICTS[verdicts[0]]}."
    said = "; ".join(f"{VERDICTS[outcome].lower()} {condition_phrase(name)}" for name, outcome in outcomes.items())
    return f"{said[0].upper()}{said[1:]}."


def tone_of(outcomes: Iterable[Outcome]) -> str:
    """Whether such outcomes are "good", "bad" or "open"."""
    said = set(outcomes)
    return "good" if said == {"better"} else "bad" if said == {"worse"} else "open"


def method_title(method: str) -> str:
    """What a method is called in the report."""
    return METHOD_TITLES.get(method, method)


def spaced(name: str) -> str:
    """A name of a split or measure in print: "sealed_test" is "sealed test"."""
    return name.replace("_", " ")


def condition_title(condition: str) -> str:
    """What a condition is called in the report: "snr_-5" is "-5 dB", "100ms" is "100 ms"."""
    match = match_condition(condition)
    if match is None:
        return condition or "as recorded"
    if match.snr_db is not None:
        return f"{format_number(match.snr_db, 'g')} dB"
    if match.duration_ms is not None:
        return f"{match.duration_ms} ms"
    if match.t60_s is not None:
        return f"T60 {match.t60_s:g} s"
    return condition if match.band is None else _band_title(match.band)


def _band_title(band: Band) -> str:
    if band.low_hz is None:
        return f"below {band.high_hz:g} Hz"
    return f"above {band.low_hz:g} Hz" if band.high_hz is None else f"{band.low_hz:g}{DASH}{band.high_hz:g} Hz"


def condition_phrase(condition: str) -> str:
    """A condition inside a sentence."""
    phrases = {CLEAN: "on clean clips", NOISY: "in noise"}
    return phrases[condition] if condition in phrases else f"at {condition_title(condition)}"


def count_phrase(n_rows: int, n_groups: int, n_versions: int = 1) -> str:
    """Clips and groups a number rests on: "110 clips, 30 groups"; "110 clips x 5, 30 groups" for five versions each."""
    times = f" \N{MULTIPLICATION SIGN} {n_versions}" if n_versions > 1 else ""
    n_clips = n_rows // n_versions
    return f"{n_clips} clip{'' if n_clips == 1 else 's'}{times}, {n_groups} group{'' if n_groups == 1 else 's'}"


def format_number(value: float, form: str = ".3f") -> str:
    """A share or an AUC: "0.971"; another number in the form that is given."""
    text = f"{value:{form}}"
    return (text if float(text) else text.removeprefix("-")).replace("-", MINUS)


def format_interval(metric: Metric) -> str:
    """The interval of a share: "[0.943, 0.988]"."""
    return f"[{format_number(metric.low)}, {format_number(metric.high)}]"


def format_metric(metric: Metric) -> str:
    """A share with its interval: "0.971 [0.943, 0.988]"."""
    return f"{format_number(metric.value)} {format_interval(metric)}"


def format_signed(value: float) -> str:
    """A difference of two shares: "+0.052", and "0.000" without a sign."""
    text = format_number(value, "+.3f")
    return "0.000" if text[1:] == "0.000" else text


def format_difference_interval(difference: PairedDifference | Metric) -> str:
    """The interval of a difference: "[+0.020, +0.084]"."""
    return f"[{format_signed(difference.low)}, {format_signed(difference.high)}]"


def format_difference(difference: PairedDifference | Metric) -> str:
    """A difference of two shares with its interval: "+0.052 [+0.020, +0.084]"."""
    value = difference.value if isinstance(difference, Metric) else difference.difference
    return f"{format_signed(value)} {format_difference_interval(difference)}"


def format_p(p_value: float) -> str:
    """A p value with its relation: "= 0.031", "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def plain_sentence(sentence: str) -> str:
    """A sentence of the evidence as print has it: "balanced_accuracy" in two words, names of settings as they are, "+-"
    and "-" as ± and minus."""
    words = re.sub(r"[a-z_]+(?:\.[a-z_]+)+|_", lambda found: " " if found[0] == "_" else found[0], sentence)
    return re.sub(r"(?<![\w.])-(?=\d)", MINUS, words.replace("+-", "±"))


def show_characters(text: str) -> str:
    """Return `text` with every character that acts but is not seen written out, as "[U+202E]".

    Controls, direction marks and invisible characters of a name from a user's file could otherwise turn round or hide
    what stands beside it. White space stays, and so do the joiners that some scripts need.
    """
    return "".join(f"[U+{ord(character):04X}]" if _acts_unseen(character) else character for character in text)


def _acts_unseen(character: str) -> bool:
    if character in "\t\n\r\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
