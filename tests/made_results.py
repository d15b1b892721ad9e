"""The results of a study that never ran, in the shape of results.json."""

from typing import Any

CONDITIONS = [
    "clean", "snr_-5", "snr_0", "snr_5", "snr_10", "snr_20", "100ms", "200ms", "500ms", "1000ms", "noisy",
]  # fmt: skip
METHODS = {
    "zero-shot": {"default_threshold": 0.0, "kind": "language_model", "form": "", "form_at_default": ""},
    "fine-tuned": {"default_threshold": 0.0, "kind": "language_model", "form": "", "form_at_default": ""},
    "silero": {
        "default_threshold": 0.5,
        "kind": "classic",
        "form": "mean, after noise",
        "form_at_default": "highest, as it is",
    },
    "webrtc": {
        "default_threshold": 0.5,
        "kind": "classic",
        "form": "mean, after noise",
        "form_at_default": "highest, as it is",
    },
}
REACHED = {"zero-shot": 0.64, "fine-tuned": 0.985, "silero": 0.92, "webrtc": 0.61}
LOST = {"snr_-5": 0.12, "snr_0": 0.07, "snr_5": 0.04, "snr_10": 0.02, "snr_20": 0.006, "noisy": 0.05,
        "100ms": 0.13, "200ms": 0.06, "500ms": 0.02, "1000ms": 0.004, "clean": 0.0}  # fmt: skip


def make_metric(name: str, value: float, half: float, n: int, n_groups: int) -> dict[str, Any]:
    value = min(1.0, value)
    low, high = max(0.0, value - half), min(1.0, value + half / 2)
    return {
        "name": name, "value": value, "low": low, "high": high, "n": n, "n_groups": n_groups,
        "method": "made", "note": "",
    }  # fmt: skip


def make_row(method: str, threshold: str, test_set: str, condition: str) -> dict[str, Any]:
    slope = {"zero-shot": 0.4, "fine-tuned": 0.7, "silero": 1.6, "webrtc": 0.6}[method]
    value = REACHED[method] - slope * LOST[condition] + (0.012 if threshold == "calibrated" else 0.0)
    n, groups = (110, 30) if test_set == "sealed_test" else (352, 64)
    n_clips = 5 * n if condition == "noisy" else n
    return {
        "method": method,
        "threshold": threshold,
        "threshold_value": METHODS[method]["default_threshold"] + (0.137 if threshold == "calibrated" else 0.0),
        "test_set": test_set,
        "condition": condition,
        "metrics": [
            make_metric("balanced_accuracy", value, 0.03, n_clips, groups),
            make_metric("recall", value + 0.01, 0.05, n_clips // 2, groups // 3),
            make_metric("specificity", value - 0.01, 0.05, n_clips - n_clips // 2, groups - groups // 3),
            make_metric("roc_auc", value + 0.01, 0.02, n_clips, groups),
        ],
    }


def make_comparison(opponent: str, test_set: str, condition: str, threshold: str) -> dict[str, Any]:
    rows = [
        make_row(method, place, test_set, condition)
        for method, place in (("fine-tuned", "calibrated"), (opponent, threshold))
    ]
    ours, theirs = (row["metrics"][0] for row in rows)
    difference = ours["value"] - theirs["value"]
    return {
        "method": "fine-tuned",
        "opponent": opponent,
        "opponent_threshold": threshold,
        "test_set": test_set,
        "condition": condition,
        "result": {
            "difference": difference, "low": difference - 0.04, "high": difference + 0.04, "p_value": 0.0004,
            "n": ours["n"], "n_groups": ours["n_groups"], "method": "made", "note": "",
        },
        "is_primary": threshold == "calibrated", "p_adjusted": 0.0024,
    }  # fmt: skip


def make_fit(seed: int) -> dict[str, Any]:
    history = [
        {
            "epoch": epoch, "step": 25 * epoch, "train_loss": 0.6 / epoch, "dev_loss": 0.5 / epoch + 0.02 * epoch,
            "gap": 0.02 * epoch - 0.1 / epoch,
            "dev_balanced_accuracy_at_0": 1 - 0.3 / epoch, "dev_auc": 1 - 0.1 / epoch, "learning_rate": 2e-4 / epoch,
        }
        for epoch in range(1, 9)
    ]  # fmt: skip
    return {
        "name": "fine-tuned", "identity": "ab12", "seed": seed, "best_epoch": 5, "n_steps": 200,
        "lora_modules": {"language_model": 14}, "history": history, "overfitting": "",
    }  # fmt: skip


def make_allocation(part: str, first: int) -> list[dict[str, Any]]:
    return [
        {
            "part": part, "label": label, "n_clips": 50, "n_groups": 5, "categories": 5,
            "groups": [f"{label.lower()}_{first + i}" for i in range(5)],
        }
        for label in ("SPEECH", "NONSPEECH")
    ]  # fmt: skip


def make_evidence(test_sets: tuple[str, ...]) -> dict[str, Any]:
    verdict = {"outcome": "met", "sentence": "met", "groups_needed": None, "clips_needed": None}
    shift, regret = make_metric("threshold_shift", 0.1, 0.2, 110, 30), make_metric("regret", 0.01, 0.01, 110, 30)
    groups = [
        {"group": f"{label.lower()}_g{i}", "label": label, "n": 20, "n_wrong": i, "right": 1 - i / 20, "low": 0.5,
         "high": 1.0}
        for label in ("SPEECH", "NONSPEECH") for i in (2, 1, 0)
    ]  # fmt: skip
    return {
        "criteria": [{"criterion": "clean balanced accuracy at least 0.75", "test_set": test_sets[-1], **verdict}],
        "transfer": {
            name: {"threshold": 0.137, "oracle": 0.037, "shift": shift, "regret": regret, "verdict": dict(verdict)}
            for name in test_sets
        },
        "curves": {name: [] for name in test_sets},
        "probability": {"map": {"slope": 1.0, "intercept": 0.1, "prior": 0.5}, "dev_cllr": {}, "test_sets": {}},
        "operating_curves": {name: [] for name in test_sets},
        "errors": {name: {"n": 120, "n_wrong": 6, "groups": groups, "heard": [], "worst": {}} for name in test_sets},
        "traps": {name: [] for name in test_sets},
    }


def make_results(test_sets: tuple[str, ...] = ("sealed_test", "out_of_corpus")) -> dict[str, Any]:
    titles = {"sealed_test": "Sealed test", "out_of_corpus": "Out-of-corpus test"}
    return {
        "name": "starter",
        "config": {"seed": 42, "lora": {"rank": 8, "targets": "attention"}},
        "model": {
            "name": "starter-small", "fingerprint": "ab" * 32, "is_starter_base": True,
            "description": {"encoder": "Whisper base", "layers": 12},
        },
        "allocation": [
            entry for i, part in enumerate(("train", "dev", *test_sets)) for entry in make_allocation(part, 5 * i)
        ],
        "backgrounds": [{"part": "train", "kind": "noise", "n": 54}, {"part": "dev", "kind": "music", "n": 12}],
        "fits": [make_fit(42)],
        "failed_fits": [],
        "ladder": [],
        "search": None,
        "leave_one_speaker_out": [],
        "evidence": make_evidence(test_sets),
        "leaks": {
            "verdict": "clean", "n_leaks": 0, "findings": [], "n_clips": {"train": 100, "dev": 100},
            "n_backgrounds": {"train": 54}, "n_pairs": 500, "unreadable": [], "search": {},
        },
        "seal": {
            "verdict": "sealed", "reason": "every threshold was committed before the first look", "head": "cd" * 32,
            "entries": [], "test_sets": dict.fromkeys(test_sets, "ef" * 32), "earlier": [],
        },
        "thresholds": {
            method: {
                "value": entry["default_threshold"] + 0.137, "criterion": "balanced_accuracy", "dev_value": 0.981,
                "dev_sha256": "0f" * 32, "n": 900, "n_groups": 24,
            }
            for method, entry in METHODS.items()
        },
        "methods": METHODS,
        "rows": [
            make_row(method, threshold, test_set, condition)
            for test_set in test_sets
            for method in METHODS
            for condition in CONDITIONS
            for threshold in ("default", "calibrated")
        ],
        "comparisons": [
            make_comparison(opponent, test_set, condition, threshold)
            for test_set in test_sets
            for opponent in ("zero-shot", "silero", "webrtc")
            for condition in CONDITIONS
            for threshold in ("calibrated", "default")
        ],
        "test_sets": [
            {
                "name": name, "title": titles[name] if name in titles else name, "n_clips": 110, "n_groups": 30,
                "classes": [], "licences": {"CC0": 110},
            }
            for name in test_sets
        ],
        "conditions": CONDITIONS,
        "quarantine": [],
        "provenance": {
            "listenwell": "0.1.0", "commit": None, "python": "3.11.7",
            "machine": {"system": "Linux", "processor": "made", "cores": 2}, "libraries": {"numpy": "2.3.0"},
        },
        "warnings": [],
    }  # fmt: skip
