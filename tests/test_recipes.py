"""Recipes before anything runs: what a file may hold, what it becomes, what is refused; the table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import UserError
from weft.gap.made import Made
from weft.intervals import NOT_MEASURED, Figure
from weft.recipes import running
from weft.recipes.content import digest, stamp
from weft.recipes.costs import costs
from weft.recipes.expansion import expand
from weft.recipes.graph import ordered, with_needs
from weft.recipes.kinds import HOMES, kind_of
from weft.recipes.ordering import put_in_order
from weft.recipes.plan import Plan, read_plan
from weft.recipes.reading import REPLACED, TAKEN, over, read_recipe
from weft.recipes.record import FILE
from weft.recipes.state import survey
from weft.recipes.table import Row, Table, over_seeds
from weft.recipes.templates import template, templates

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "recipes").glob("**/*.yaml"))

BASE = """\
name: tiny
lists: {data: [tessy, teacher-only], seed: [0, 1]}
stages:
  prompts: {run: prompts, n: 4}
  traces:
    run: synth
    each: [data]
    prompts: stage:prompts
    student: micro:student
    teacher: micro:teacher
    strategy: "{data}"
  sft:
    run: sft
    each: [data, seed]
    model: micro:student
    data: "stage:traces/{data}"
    seed: "{seed}"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def plan(tmp_path: Path, text: str) -> Plan:
    return read_plan(write(tmp_path, text), tmp_path / "out")


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UserError) as caught:
        plan(tmp_path, text)
    return str(caught.value)


# -- what a file expands to ----------------------------------------------------------------------------------


def test_one_stage_for_each_combination_each_with_its_own_values(tmp_path: Path) -> None:
    found = {stage.name: stage for stage in plan(tmp_path, BASE).stages}
    assert list(found) == [
        "prompts",
        "traces/tessy",
        "traces/teacher-only",
        *(f"sft/{data}/{seed}" for data in ("tessy", "teacher-only") for seed in (0, 1)),
    ]
    sft: Any = found["sft/tessy/1"].settings
    assert sft.seed == 1 and type(sft.seed) is int
    assert sft.data == (str(tmp_path / "out/traces/tessy/traces-tessy.jsonl"),)
    assert found["sft/tessy/1"].needs == ("traces/tessy",)
    assert found["sft/tessy/1"].decides["data"] == ["stage:traces/tessy"]


def test_a_value_of_a_list_may_have_settings_of_its_own(tmp_path: Path) -> None:
    text = BASE.replace("each: [data]", "each: {data: {tessy: {keep_proposals: true}, teacher-only: {}}}")
    found: dict[str, Any] = {stage.name: stage.settings for stage in plan(tmp_path, text).stages}
    assert found["traces/tessy"].keep_proposals
    assert not found["traces/teacher-only"].keep_proposals


def test_defaults_hold_for_a_kind_and_own_settings_go_over_them(tmp_path: Path) -> None:
    text = BASE.replace(
        "stages:\n",
        "defaults: {synth: {sampling: {temperature: 0.5, top_k: 3}, seed: 9}}\nstages:\n",
    ).replace('strategy: "{data}"', 'strategy: "{data}"\n    sampling: {temperature: 0.7}\n    seed: null')
    settings: Any = plan(tmp_path, text).stages[1].settings
    assert (settings.sampling.temperature, settings.sampling.top_k) == (0.7, 3)
    assert settings.seed == 0  # null takes the default away


def test_settings_may_come_from_a_file_of_the_command(tmp_path: Path) -> None:
    config = tmp_path / "synth.yaml"
    config.write_text("student: micro:student\nteacher: micro:teacher\nseed: 5\nsamples: 2\n")
    text = (
        f"stages:\n  p: {{run: prompts}}\n  t: {{run: synth, config: {config}, prompts: stage:p, seed: 6}}\n"
    )
    settings: Any = plan(tmp_path, text).stages[1].settings
    assert (settings.seed, settings.samples, settings.teacher.name) == (6, 2, "micro:teacher")


def test_a_pattern_in_a_list_stands_for_every_stage_that_matches_and_crosses_no_slash(tmp_path: Path) -> None:
    text = BASE + '  report: {run: report, files: ["stage:traces/*", "stage:sft/*/0"]}\n'
    report = plan(tmp_path, text).stages[-1]
    assert report.needs == ("traces/tessy", "traces/teacher-only", "sft/tessy/0", "sft/teacher-only/0")


def test_stages_may_stand_in_any_order(tmp_path: Path) -> None:
    text = (
        "stages:\n"
        "  t: {run: synth, prompts: stage:p, student: micro:student, strategy: student-only}\n"
        "  p: {run: prompts}\n"
    )
    assert [stage.name for stage in plan(tmp_path, text).stages] == ["p", "t"]


def test_the_folder_and_a_servers_address_and_key_decide_nothing(tmp_path: Path) -> None:
    text = BASE.replace("teacher: micro:teacher", 'teacher: {name: "M@http://127.0.0.1:1", api_key_env: KEY}')
    other = BASE.replace("teacher: micro:teacher", 'teacher: "M@http://10.0.0.1:2,http://10.0.0.1:3"')
    one = read_plan(write(tmp_path, text), tmp_path / "a").stages[1]
    two = read_plan(write(tmp_path, other), tmp_path / "b").stages[1]
    assert one.settings != two.settings
    assert one.decides == two.decides


def test_braces_that_name_no_list_stay(tmp_path: Path) -> None:
    text = BASE + (
        "  e: {run: eval, each: [data], model: micro:student, tasks: stage:prompts, "
        "verifier: 'regex:{1,3}\\d{2}'}\n"
    )
    settings: Any = plan(tmp_path, text).stages[-1].settings
    assert settings.verifier == "regex:{1,3}\\d{2}"


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), max_size=3
    )
)
def test_every_combination_comes_once(
    tmp_path_factory: pytest.TempPathFactory, lists: dict[str, list[int]]
) -> None:
    each = json.dumps(lists)
    path = write(tmp_path_factory.mktemp("r"), f"stages: {{p: {{run: prompts, each: {each}}}}}\n")
    names = [one.name for one in expand(read_recipe(path, list(HOMES)))]
    assert len(names) == len(set(names)) == int(np.prod([len(values) for values in lists.values()] or [1]))


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("stages:", "stagse:"), ["no stages"]),
        (("name: tiny", "nmae: tiny"), ["unknown key of a recipe: nmae; did you mean name?"]),
        (("run: prompts", "run: promts"), ["recipe.yaml:4: stage prompts", "did you mean prompts?"]),
        (("n: 4", "m: 4"), ["recipe.yaml:4: stage prompts (prompts)", "unknown setting m"]),
        (("prompts: stage:prompts", "promts: stage:prompts"), ["traces/tessy", "did you mean prompts?"]),
        (
            ("model: micro", "seeed: 1\n    model: micro"),
            ["sft/tessy/0 (sft)", "unknown setting seeed; did you mean seed?"],
        ),
        (("n: 4", "n: 0"), ["n: Input should be greater than or equal to 1"]),
        (("stage:prompts", "stage:prompt"), ["there is no stage prompt; did you mean prompts?"]),
        (('"stage:traces/{data}"', "stage:traces"), ["stage:traces is not one stage", "[stage:traces/*]"]),
        (('"stage:traces/{data}"', '"stage:traces/*"'), ["stands for several stages"]),
        (('"stage:traces/{data}"', '["stage:sft/*/*"]'), ["in a circle", "sft/tessy/0"]),
        (("each: [data]", "each: [dat]"), ["no list is called dat", "did you mean data?"]),
        (('"{data}"', '"{seed}"'), ["{seed} in `{seed}`: the stage does not run over seed"]),
        (("each: [data, seed]", "each: {data: tessy}"), ["data: 'tessy'", "a list of texts or numbers"]),
        (("seed: [0, 1]", f"seed: {list(range(600))}"), ["1,200 stages of one", "at most 1,000"]),
        (("seed: [0, 1]", "seed: [0, 0]"), ["two stages would be called sft/tessy/0"]),
        (("  sft:\n", "  replaced:\n"), ["the name of a stage: replaced"]),
        (("  sft:\n", "  a/b:\n"), ["the name of a stage: a/b"]),
        (("  sft:\n", "  run.json:\n"), ["the name of a stage: run.json"]),
        (("  sft:\n", "  Stage:\n"), ["the name of a stage: Stage"]),
        (("each: [data, seed]", "each: [[data]]"), ["no list is called ['data']"]),
        (("stages:\n", "defaults: []\nstages:\n"), ["defaults: not a mapping: []"]),
        (("n: 4", "n: 4, n: 5"), ["recipe.yaml:4", "n stands twice"]),
        (("micro:teacher", "micro:techer"), ["no engine micro:techer", "micro:student or micro:teacher"]),
        (
            ('"stage:traces/{data}"', "stage:prompts"),
            ["sft/tessy/0 (sft)", "data: stage:prompts is a stage of the kind prompts", "synth or verify"],
        ),
        (
            ("  sft:\n", "  t: {run: table, rows: {a: [stage:sft/tessy/*]}}\n  sft:\n"),
            ["rows: stage:sft/tessy/0 is a stage of the kind sft", "kind eval"],
        ),
        (("  sft:\n", "  traces:\n"), ["recipe.yaml:12", "traces stands twice"]),
        (("prompts: stage:prompts", "prompts: nothing-here.jsonl"), ["nothing-here.jsonl", "no such file"]),
        (("model: micro:student", "model: ./no/model"), ["./no/model", "no such file"]),
        (("    run: sft\n", "    run: sft\n    config: gone.yaml\n"), ["gone.yaml", "cannot be read"]),
        (
            ("stages:\n", "defaults: {sfft: {}}\nstages:\n"),
            ["unknown kind of stage: sfft; did you mean sft?"],
        ),
        (("name: tiny", "name: a/b"), ["the name 'a/b'"]),
        (("name: tiny", "name: [tiny"), ["not valid YAML", "recipe.yaml:2"]),
        (("{run: prompts, n: 4}", "prompts"), ["not a mapping: 'prompts'"]),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    tmp_path: Path, change: tuple[str, str], said: list[str]
) -> None:
    assert change[0] in BASE
    message = refusal(tmp_path, BASE.replace(*change))
    assert all(part in message for part in said), message


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "stages: {}", "stages: []", "\x00", "a: &a [*a]\n", "{" * 5000]
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    assert str(tmp_path) in refusal(tmp_path, text)


def test_a_merge_that_is_merged_again_says_no_key_twice(tmp_path: Path) -> None:
    text = """\
stages:
  a: {run: prompts, each: {of: {few: &few {n: 1}, more: &more {<<: *few, n: 2}}}}
  b: {run: prompts, <<: *more}
"""
    settings: Any = [stage.settings for stage in plan(tmp_path, text).stages]
    assert [one.n for one in settings] == [1, 2, 2]


def test_no_stage_is_called_as_a_runs_own_files() -> None:
    assert {running.RUN, running.RECIPE, REPLACED, Path(FILE).stem} == set(TAKEN)


def test_settings_that_name_stages_are_settings() -> None:
    for name in HOMES:
        kind = kind_of(name)
        assert kind.takes.keys() <= kind.model.model_fields.keys()
        assert set().union(*kind.takes.values()) <= set(HOMES)


def test_a_file_of_settings_says_which_command_it_is_for(tmp_path: Path) -> None:
    assert "weft synth PROMPTS --config" in refusal(tmp_path, "student: micro:student\n")


def test_a_folder_or_a_binary_file_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path, tmp_path / "b.yaml", tmp_path / "gone.yaml"):
        with pytest.raises(UserError, match="cannot be read"):
            read_plan(path)


@given(st.dictionaries(st.integers(0, 12), st.lists(st.integers(0, 12), max_size=4), min_size=1))
def test_an_order_holds_all_needs_or_there_is_a_circle(edges: dict[int, list[int]]) -> None:
    names = {str(key) for key in edges}
    stages = {str(key): tuple({str(v) for v in values} & names) for key, values in edges.items()}
    try:
        order = ordered(stages, "r")
    except UserError as error:
        circle = str(error).rpartition("circle: ")[2].splitlines()[0].split(" -> ")
        assert circle[0] == circle[-1]
        assert all(after in stages[before] for before, after in pairwise(circle))
        return
    assert sorted(order) == sorted(stages)
    assert all(order.index(need) < order.index(name) for name in stages for need in stages[name])


def test_only_takes_what_is_needed_along() -> None:
    stages = {"a": (), "b/1": ("a",), "b/2": ("a",), "c": ("b/1",)}
    assert with_needs(["c"], stages) == {"a", "b/1", "c"}
    assert with_needs(["b"], stages) == with_needs(["b/*"], stages) == {"a", "b/1", "b/2"}
    with pytest.raises(UserError, match="there is no stage d"):
        with_needs(["d"], stages)


def test_over_joins_mappings_and_leaves_its_arguments() -> None:
    base = {"a": {"x": 1, "y": 2}, "b": [1]}
    assert over(base, {"a": {"y": 3}, "b": [2], "c": None}) == {"a": {"x": 1, "y": 3}, "b": [2]}
    assert base == {"a": {"x": 1, "y": 2}, "b": [1]}


def test_every_kind_says_what_it_reads_and_no_idle_setting_is_unknown() -> None:
    for name in HOMES:
        kind: Any = kind_of(name)
        assert kind.name == name
        assert kind.inputs <= kind.model.model_fields.keys(), name
        assert kind.idle <= kind.model.model_fields.keys(), name


# -- the recipes that ship -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_loads_and_says_what_it_costs(path: Path, tmp_path: Path) -> None:
    found = read_plan(path, tmp_path)
    assert found.stages
    assert costs(found, survey(found)).stages.keys() == {stage.name for stage in found.stages}
    if "stages:" in path.read_text():
        assert found.recipe.name == path.stem
        assert found.recipe.about


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_recipe_holds_all_weights_in_16_bits(path: Path, tmp_path: Path) -> None:
    for stage in read_plan(path, tmp_path).stages:
        settings: Any = stage.settings
        if stage.kind.name in ("sft", "align"):  # AdamW's updates would be lost in rounding
            assert settings.lora_r or settings.dtype in (None, "float32"), stage.name


def test_a_server_of_a_stages_model_waits_for_it_by_its_tokenizer(tmp_path: Path) -> None:
    text = BASE + (
        "  own:\n    run: synth\n    prompts: stage:prompts\n    strategy: student-only\n"
        "    student: {name: 'tuned@http://127.0.0.1:9', tokenizer: 'stage:sft/tessy/0'}\n"
    )
    found = plan(tmp_path, text).stages[-1]
    assert found.needs == ("prompts", "sft/tessy/0")
    assert found.decides["student"]["tokenizer"] == "stage:sft/tessy/0"


def test_tessys_recipe_has_the_papers_values() -> None:
    found = read_plan(template("tessy"))
    assert found.recipe.name == "tessy-qwen3-8b-gpt-oss-120b"
    stages: dict[str, Any] = {stage.name: stage.settings for stage in found.stages}
    synth, sft, test = stages["traces/tessy"], stages["sft/tessy"], stages["base-eval"]
    assert (synth.sampling.temperature, synth.sampling.top_p, synth.sampling.top_k) == (0.7, 0.8, 20)
    assert (synth.step, synth.limits.thinking, synth.answer_by) == (20, 38_000, "student")
    assert synth.boundary.student == "CoopReason/Boundary_Predictor_Student_Code"
    assert synth.boundary.teacher == "CoopReason/Boundary_Predictor_Teacher_Code"
    assert synth.teacher.template_arguments == {"reasoning_effort": "high"}
    assert (sft.num_train_epochs, sft.learning_rate) == (9, 5e-5)
    assert sft.per_device_train_batch_size * sft.gradient_accumulation_steps == 128
    assert test.sampling.temperature == 0.6
    assert test.limits.thinking + test.limits.response == 40_960


def test_the_smoke_recipe_is_the_graph_of_the_real_one() -> None:
    kinds = {
        name: {stage.kind.name for stage in read_plan(template(name)).stages}
        for name in ("micro", "micro-smoke")
    }
    assert kinds["micro"] <= kinds["micro-smoke"]


def test_recipes_are_found_by_the_beginning_of_their_name() -> None:
    assert set(templates()) >= {"micro", "micro-smoke", "math", "science", "poet"}
    assert template("micro").name == "micro.yaml"
    for name, near in (("mico", "micro"), ("m", "math"), ("", ""), ("zzz", "")):
        with pytest.raises(UserError, match=f"no recipe is called {name}") as caught:
            template(name)
        assert near in str(caught.value)


@pytest.mark.slow
def test_the_wheel_holds_the_recipes_and_finds_them(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(place)
    code = "from weft.recipes.templates import templates; print(*templates().values())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(place)},
        cwd=tmp_path,
    )
    paths = done.stdout.split()
    assert paths and all(path.startswith(str(place)) for path in paths)
    assert (place / "weft/recipes/shipped/poet/gemma2-it-dpo.yaml").is_file()


# -- content -------------------------------------------------------------------------------------------------


def rows(path: Path, *given: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def test_rows_are_the_same_content_in_any_order_and_at_any_cost(tmp_path: Path) -> None:
    one = {"id": "a", "text": "x", "usage": {"seconds": 1.5}, "engines": {"student": "here"}}
    two = {"id": "b", "text": "y", "usage": {"seconds": 2.5}, "engines": {"student": "here"}}
    cheap = {**one, "usage": {"seconds": 0.5}, "engines": {"student": "there"}}
    known = digest(rows(tmp_path / "1.jsonl", one, two))
    assert digest(rows(tmp_path / "2.jsonl", two, cheap)) == known
    assert digest(rows(tmp_path / "3.jsonl", one, {**two, "text": "z"})) != known
    assert digest(rows(tmp_path / "4.jsonl", one, two, two)) != known
    assert digest(rows(tmp_path / "5.jsonl", one)) != known
    assert digest(tmp_path / "none.jsonl") is None


def test_a_models_folder_is_its_weights_not_its_card(tmp_path: Path) -> None:
    (tmp_path / "m" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"123")
    known = digest(tmp_path / "m")
    (tmp_path / "m" / "README.md").write_text("card")
    (tmp_path / "m" / "sft.manifest.json").write_text("{}")
    (tmp_path / "m" / "checkpoints" / "checkpoint-1" / "model.safetensors").write_bytes(b"9")
    assert digest(tmp_path / "m") == known is not None
    before = stamp(tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(b"1234")
    assert digest(tmp_path / "m") != known
    assert stamp(tmp_path / "m") != before


def test_a_result_is_its_value_without_what_made_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"kind": "x", "made": {"created": "now"}}')
    (tmp_path / "b.json").write_text('{"made": {"created": "then"},\n "kind": "x"}')
    assert digest(tmp_path / "a.json") == digest(tmp_path / "b.json")


def test_rows_are_put_in_the_order_of_their_ids(tmp_path: Path) -> None:
    path = rows(tmp_path / "x.jsonl", {"id": "b", "t": "é"}, {"id": "a"}, {"id": "c"})
    rejected = rows(tmp_path / "x.rejected.jsonl", {"id": "2"}, {"id": "1"})
    before = digest(path)
    put_in_order(path)
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b", "c"]
    assert [json.loads(line)["id"] for line in rejected.read_text().splitlines()] == ["1", "2"]
    assert digest(path) == before
    inode = path.stat().st_ino
    put_in_order(path)
    assert path.stat().st_ino == inode  # what is in order is not written again
    put_in_order(tmp_path)


# -- the table -----------------------------------------------------------------------------------------------


def test_a_mean_over_seeds_by_hand() -> None:
    found = over_seeds([{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 1.0}])
    assert found.value == pytest.approx(0.625)
    assert found.n == 2
    assert found.low is not None and found.high is not None
    assert found.low <= 0.625 <= found.high


def test_what_was_not_evaluated_is_not_measured() -> None:
    assert over_seeds([]) == over_seeds([{}, {}]) == NOT_MEASURED
    assert over_seeds([{"a": 0.0}]) == Figure(0.0, None, None, 1)
    half = over_seeds([{"a": 1.0, "b": 1.0}, {"a": 0.0}, {}])
    assert half.value == pytest.approx(2 / 3)  # the prompt that one seed lacks is no wrong answer


def test_prompts_alike_within_seeds_that_differ_have_an_interval_of_the_seeds() -> None:
    # Every prompt alike: all of the spread is that of the seeds, whatever the number of prompts.
    prompts = [str(number) for number in range(200)]
    seeds = [dict.fromkeys(prompts, share) for share in (0.2, 0.5, 0.8)]
    assert [over_seeds(seeds).low, over_seeds(seeds).high] == pytest.approx([0.2, 0.8])
    alone = over_seeds(seeds[1:2])
    assert [alone.low, alone.high] == pytest.approx([0.5, 0.5])


def test_the_interval_covers_the_truth_where_both_seeds_and_prompts_vary() -> None:
    random = np.random.default_rng(0)
    hits, times = 0, 120
    for at in range(times):
        skill, hardness = random.normal(0, 0.08, size=(5, 1)), random.normal(0, 0.2, size=(1, 60))
        right = (random.random((5, 60)) < np.clip(0.5 + skill + hardness, 0, 1)).astype(float)
        found = over_seeds([dict(enumerate_prompts(row)) for row in right], seed=at, resamples=300)
        assert found.low is not None and found.high is not None
        hits += found.low <= 0.5 <= found.high
    assert 0.88 <= hits / times <= 1.0


def enumerate_prompts(row: Any) -> list[tuple[str, float]]:
    return [(str(number), float(value)) for number, value in enumerate(row)]


def test_the_order_of_prompts_decides_nothing() -> None:
    one = {"a": 1.0, "b": 0.0, "c": 0.5}
    turned = dict(reversed(one.items()))
    assert over_seeds([one, one], seed=3) == over_seeds([turned, turned], seed=3)


def test_a_table_as_json_and_for_people() -> None:
    made = Made("1", "2026-01-01T00:00:00+00:00", (), {}, {})
    table = Table(
        made,
        "Accuracy | greedy",
        ("skill", "harder"),
        (
            Row("base", (Figure(0.5, 0.4, 0.6, 250), NOT_MEASURED), 1),
            Row("a|b", (Figure(0.75, 0.7, 0.8, 250),) * 2, 3),
        ),
    )
    assert Table.from_json(json.loads(json.dumps(table.to_json()))) == table
    lines = table.to_markdown(2).splitlines()
    assert lines[0] == "**Accuracy \\| greedy**"
    assert lines[2].split("|")[2].strip() == "skill"
    assert "0.50 (0.40–0.60)" in lines[4] and "–" in lines[4].split("|")[3]
    assert lines[5].startswith("| a\\|b")
    assert len({len(line) for line in lines[2:6]}) == 1
    assert "over seeds and prompts; 250 prompts" in lines[-1]
    assert "over prompts, of one seed alone" in replace(table, rows=table.rows[:1]).to_markdown()
    with pytest.raises(ValueError, match="it is 'other'"):
        Table.from_json({**table.to_json(), "kind": "other"})


def test_poets_recipes_run_as_stages_of_others(tmp_path: Path) -> None:
    shutil.copy(ROOT / "recipes/poet/llama3-base-dpo.yaml", tmp_path / "dpo.yaml")
    text = f"stages:\n  a: {{run: align, config: {tmp_path}/dpo.yaml, prefix: none}}\n"
    settings: Any = plan(tmp_path, text).stages[0].settings
    assert (settings.prefix, settings.beta) == ("none", 0.01)
