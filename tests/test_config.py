"""The config tree: differences only, every fault with its place."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listenwell.config import Config, config_beside, dump, load_config, settings
from listenwell.errors import ConfigError


def load(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


def fault(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    assert caught.value.exit_status == 2
    return str(caught.value)


def test_a_file_holds_differences_and_overrides_come_on_top(tmp_path):
    config = load(tmp_path, "seed: 1\nmodel:\n  dtype: bfloat16\n  device: cpu\n", "model.device=cuda:1", "seed=2")
    assert (config.seed, config.model.dtype, config.model.device) == (2, "bfloat16", "cuda:1")
    assert config.prompt == Config().prompt


def test_numbers_that_yaml_reads_as_text_become_numbers(tmp_path):
    assert load(tmp_path, "scoring: {batch_seconds: 1e2}").scoring.batch_seconds == 100.0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("modle: {}", "study.yaml line 1, modle: unknown key; did you mean 'model'?"),
        ("model:\n  divice: cpu", "study.yaml line 2, model.divice: unknown key; did you mean 'model.device'?"),
        ("xyz: 1", "xyz: unknown key; expected one of " + ", ".join(sorted(Config.model_fields)) + "."),
        ("seed: soon", "line 1, seed: found soon, but the value should be a valid integer"),
        ("seed: yes", "seed: found true, expected a number."),
        ("scoring:\n  batch_seconds: .inf", "found .inf, but the value should be a finite number"),
        ("prompt:\n  question: 7", "line 2, prompt.question: found 7, expected text; put it in quotes"),
        ("prompt: {layout: both}", "prompt.layout: found both, expected 'audio_first' or 'text_first'."),
        ("model: {device: gpu}", "model.device: found gpu, but the value is no device (did you mean 'cuda'?)"),
        ("model: small", "model: found small, expected a section of settings below this key."),
        ("model:\n  name: a\n  name: b", "line 3: 'model.name' already stands in line 2"),
        ("- seed", "study.yaml: holds a list, a mapping of settings was expected"),
        ("seed: [", "study.yaml line 1: is not valid YAML"),
        ("model:\n  ~: cpu", "study.yaml line 2: a setting without a name"),
        ("a: &a\n  b: *a", "holds a value that YAML cannot read"),
        ("\x00", "is not valid YAML"),
    ],
)
def test_a_faulty_file_is_refused_with_place_found_and_expected(tmp_path, text, sentence):
    assert sentence in fault(tmp_path, text)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed", "override 'seed': expected section.key=value"),
        ("model.=1", "override 'model.=1': expected section.key=value"),
        ("model.nam=x", "override 'model.nam=x': unknown key; did you mean 'model.name'?"),
        ("seed.deep=1", "override 'seed.deep=1': found {deep: 1}"),
        ("seed=[", "override 'seed=[' line 1: is not valid YAML"),
    ],
)
def test_a_faulty_override_is_refused(tmp_path, override, sentence):
    assert sentence in fault(tmp_path, "", override)
    assert "'seed' is a single value and has no keys below it" in fault(tmp_path, "seed: 1", "seed.deep=1")


def test_all_faults_are_listed_at_once(tmp_path):
    message = fault(tmp_path, "sed: 1\nmodel:\n  device: 5\n", "seed=x")
    assert message.startswith("3 faults in the config:")
    assert all(place in message for place in ("line 1, sed", "line 3, model.device", "override 'seed=x'"))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(ConfigError, match=f"{path}: cannot be read"):
            load_config(path)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**63),
    question=st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1),
    minimum_s=st.floats(0.04, 30.0),
)
def test_a_dumped_tree_loads_to_an_equal_one(seed, question, minimum_s, tmp_path_factory):
    values = {"seed": seed, "prompt": {"question": question}, "short_clips": {"minimum_s": minimum_s}}
    config = Config.model_validate(values)
    for text in (dump(config), dump(config, with_help=True)):
        assert load(tmp_path_factory.mktemp("config"), text) == config


def test_printing_shows_every_setting_with_its_help_and_marks_changes():
    text = dump(load_config(None, ["model.dtype=bfloat16"]), with_help=True)
    assert "  dtype: bfloat16  # default: float32" in text
    for setting in settings(Config()):
        assert setting.help, f"{setting.key} has no help"
        assert f"# {setting.help}" in text


IN_THE_FILE = """
relative_to: file
output: run
ledger: ../fits
data: {manifest: clips.csv, backgrounds: ./b.csv}
model: {name: ../base}
"""


def test_paths_of_a_file_that_says_so_start_at_its_folder_and_those_of_the_command_line_do_not(tmp_path, monkeypatch):
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    expected = {
        "output": folder / "run",
        "ledger": tmp_path / "fits",
        "manifest": str(folder / "clips.csv"),
        "backgrounds": str(folder / "b.csv"),
        "name": str(tmp_path / "base"),
    }
    load(folder, IN_THE_FILE)
    for path in (folder / "study.yaml", Path("project/study.yaml")):
        config = load_config(path)
        found = {
            "output": config.output, "ledger": config.ledger, "manifest": config.data.manifest,
            "backgrounds": config.data.backgrounds, "name": config.model.name,
        }  # fmt: skip
        assert found == expected
        assert config.relative_to == "cwd"
    changed = load_config(folder / "study.yaml", ["output=elsewhere", "data.manifest=c.csv", "model.name=./m"])
    assert (changed.output, changed.data.manifest, changed.model.name) == (Path("elsewhere"), "c.csv", "./m")
    assert changed.data.backgrounds == expected["backgrounds"]
    from_here = load_config(folder / "study.yaml", ["relative_to=cwd"])
    assert (from_here.output, from_here.data.manifest) == (Path("run"), "clips.csv")


def test_words_hub_names_and_absolute_paths_of_such_a_file_stay_as_they_are(tmp_path):
    text = "relative_to: file\noutput: /runs/x\ndata: {manifest: starter, backgrounds: none}\nmodel: {name: a/b}\n"
    config = load(tmp_path, text)
    assert (str(config.output), config.ledger) == ("/runs/x", None)
    assert (config.data.manifest, config.data.backgrounds, config.model.name) == ("starter", "none", "a/b")
    assert load(tmp_path, "relative_to: file\ndata: {backgrounds: starter}").data.backgrounds == "starter"


def test_paths_start_at_the_current_folder_unless_the_file_says_otherwise(tmp_path):
    config = load(tmp_path, IN_THE_FILE.replace("relative_to: file", ""))
    assert (config.output, config.data.manifest, config.model.name) == (Path("run"), "clips.csv", "../base")
    assert "relative_to: found here, expected 'cwd' or 'file'." in fault(tmp_path, "relative_to: here")
    assert "line 2, output: found 3" in fault(tmp_path, "relative_to: file\noutput: 3")


@pytest.mark.parametrize(
    ("model", "backgrounds"),
    [("small", "none"), ("a/b", "{folder}/none"), ("./base", "../b.csv"), ("{folder}/base", "/data/b.csv"),
     ("{folder}/runs/x/base", "none")],
)  # fmt: skip
def test_a_config_kept_beside_its_run_loads_to_an_equal_one_and_moves_with_the_run(
    tmp_path, monkeypatch, model, backgrounds
):
    folder = tmp_path / "project"
    run = folder / "runs" / "x"
    run.mkdir(parents=True)
    monkeypatch.chdir(folder)
    changes = [
        "output=runs/x", f"ledger={folder}/runs/fits", "data.manifest=runs/clips.csv",
        f"data.backgrounds={backgrounds.format(folder=folder)}", f"model.name={model.format(folder=folder)}",
    ]  # fmt: skip
    config = load_config(None, changes)
    (run / "config.yaml").write_text(dump(config_beside(config, Path("runs/x"))))
    monkeypatch.chdir(tmp_path)
    kept = load_config(run / "config.yaml")
    assert kept.output == run
    assert kept.ledger == folder / "runs" / "fits"
    assert kept.data.manifest == str(folder / "runs" / "clips.csv")
    wanted = {"none": "none", "../b.csv": str(tmp_path / "b.csv")}
    assert kept.data.backgrounds == wanted.get(backgrounds, backgrounds.format(folder=folder))
    assert kept.model.name == (str(folder / "base") if model == "./base" else model.format(folder=folder))
    assert config_beside(kept, run) == config_beside(load_config(run / "config.yaml"), run)
    assert load(tmp_path, dump(config_beside(kept, tmp_path))) == kept
    shutil.move(folder / "runs", tmp_path / "moved")
    moved = load_config(tmp_path / "moved" / "x" / "config.yaml")
    assert (moved.output, moved.ledger) == (tmp_path / "moved" / "x", tmp_path / "moved" / "fits")
    assert moved.data.manifest == str(tmp_path / "moved" / "clips.csv")
    inside = f"{folder}/runs/x/base"
    assert moved.model.name == (str(tmp_path / "moved/x/base") if kept.model.name == inside else kept.model.name)
    assert moved.data.backgrounds == kept.data.backgrounds
    # the same tree, wherever it lies
    assert config_beside(moved, moved.output) == config_beside(kept, run)


def test_old_names_of_settings_are_read_like_the_new_ones(tmp_path):
    (tmp_path / "study.yaml").write_text("loso: {folds: 3}\nevaluation: {least_loso: 0.6}\n")
    config = load_config(tmp_path / "study.yaml", ["loso.dev_speakers=4"])
    assert (config.leave_one_out.folds, config.leave_one_out.dev_speakers) == (3, 4)
    assert config.evaluation.least_leave_one_out == 0.6
    (tmp_path / "study.yaml").write_text("loso: {folds: 3}\nleave_one_out: {folds: 4}\n")
    with pytest.raises(ConfigError, match="loso: is the old name of leave_one_out, which is given, too; keep one"):
        load_config(tmp_path / "study.yaml")
    (tmp_path / "study.yaml").write_text("loso: {fold: 3}\n")
    with pytest.raises(ConfigError, match=r"study.yaml line 1, leave_one_out.fold: unknown key; did you mean"):
        load_config(tmp_path / "study.yaml")


@pytest.mark.parametrize("change", ["opponents=[silro]", "conditions=[clean, 70ms]"])
def test_a_primary_comparison_that_is_not_made_is_refused(change):
    with pytest.raises(ConfigError, match=r"primary\.(opponents|conditions) names '(silro|70ms)'; expected"):
        load_config(None, [f"evaluation.primary.{change}"])
