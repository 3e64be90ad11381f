"""The faults of published releases (row numbers as in the list that the project keeps), each simulated exactly and found."""

import re
from dataclasses import replace

import pytest
from hub_audit_making import NAME, PYTHIA_STEPS, Branches, Hub, Training, card, release, settings, without

from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.release import Audit, Wanted, audit

PYTHIA = Training(PYTHIA_STEPS, dtype="F16")
LAST = len(PYTHIA_STEPS) - 1
SMALL = Training()


def look(hub: Hub, branches: Branches, pattern: str | None = None, deep: bool = False) -> Audit:
    hub.add(branches)
    return audit(NAME, Wanted(hub.endpoint, pattern, deep))


def wrong(found: Audit) -> dict[str, list[Finding]]:
    """What is more than a note, by the name of the check."""
    kept: dict[str, list[Finding]] = {}
    for finding in found.findings:
        if finding.severity is not Severity.NOTE:
            kept.setdefault(finding.check, []).append(finding)
    return kept


def only(found: Audit, check: str) -> Finding:
    """The one finding there is."""
    kept = wrong(found)
    assert list(kept) == [check], kept
    (finding,) = kept[check]
    return finding


def untold(training: Training, name: str) -> dict[str, str]:
    """Changes to a card: nothing is said of tokens, and a link to a branch is by its name."""
    steps = training.steps
    told = f"trained for {steps[-1]:,} steps ({steps[-1] * 2048:,} tokens) with a batch size of 2,048 tokens"
    return {told: "trained", f'"step{steps[3]}"': f'"{name.format(step=steps[3])}"'}


def test_in_a_clean_release_of_154_branches_nothing_is_found(hub):
    assert list(look(hub, release(PYTHIA)).findings) == []


def test_in_a_clean_release_of_pickles_only_the_pickles_are_found(hub):
    found = look(hub, release(replace(PYTHIA, shards=3), form="pickles"))
    assert list(wrong(found)) == ["pickles"]
    assert [finding.check for finding in found.findings] == ["pickles", "not looked at"]


# Row 1: pythia#205


def branches_of_205() -> tuple[Branches, list[str], list[str]]:
    """76 branches with main's file, 10 with another one that differs from it in few tensors, 68 with their own."""
    branches = release(PYTHIA)
    singles = [55, 60, 65, 70, 80, 90, 100, 103, 110, 120, 130, 140]
    final = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *(1000 * n for n in [*range(1, 54), *singles])]
    second = [1000 * n for n in (54, 56, 57, 58, 59, 61, 62, 63, 64, 143)]
    ours = PYTHIA.weights(LAST)
    alike = {"gpt_neox.final_layer_norm.bias": "gpt_neox.layers.0.input_layernorm.bias"}
    theirs = PYTHIA.weights(LAST, swapped=alike)
    names = [f"step{step}" for step in final], [f"step{step}" for step in second]
    for name in (*names[0], "main"):
        branches[name] = {**branches[name], **ours}
    for name in names[1]:
        branches[name] = {**branches[name], **theirs}
    return branches, *names


def test_row_1_branches_that_serve_the_final_weights_are_found_with_all_their_names(hub):
    branches, final, second = branches_of_205()
    assert (len(final), len(second), len(branches)) == (76, 10, 155)
    kept = wrong(look(hub, branches))
    assert sorted(kept) == ["first is last", "identical tensors", "identical weights", "main is not the last"]
    groups = [set(finding.branches) for finding in kept["identical weights"]]
    assert groups == [set(final), set(second)]
    assert all(finding.severity is Severity.ERROR for finding in kept["identical weights"])
    assert "`main` has these weights too" in kept["identical weights"][0].evidence
    assert any("step142000" in line for line in kept["identical weights"][0].evidence)
    assert set(kept["identical tensors"][0].branches) == {*final, *second}
    assert kept["first is last"][0].branches == ("step0", "main")


# Row 2: pythia#206, #108


def test_row_2_a_single_wrong_shard_at_two_steps_is_found_in_pickles(hub):
    training = replace(PYTHIA, shards=3)
    branches = release(training, form="pickles")
    shard = "pytorch_model-00001-of-00003.bin"
    for step in (50_000, 58_000):
        branches[f"step{step}"] = {**branches[f"step{step}"], shard: branches["main"][shard]}
    kept = wrong(look(hub, branches))
    assert sorted(kept) == ["identical shards", "pickles"]
    (finding,) = kept["identical shards"]
    assert finding.branches == ("step50000", "step58000", "step143000")
    assert shard in finding.evidence[0] and branches["main"][shard].digest in finding.evidence[0]


def test_row_2_a_single_wrong_shard_at_two_steps_is_found_in_safetensors(hub):
    training = replace(PYTHIA, shards=3)
    branches = release(training)
    shard = "model-00001-of-00003.safetensors"
    for step in (50_000, 58_000):
        branches[f"step{step}"] = {**branches[f"step{step}"], shard: branches["main"][shard]}
    finding = only(look(hub, branches), "identical shards")
    assert finding.branches == ("step50000", "step58000", "step143000")


def test_row_2_a_branch_with_weights_of_another_step_saved_anew_is_found(hub):
    """As 12b-deduped's step32000: of no branch's bytes, but performing as the last ones do."""
    branches = release(PYTHIA)
    finer = Training((*PYTHIA_STEPS[:-1], 142_500, PYTHIA_STEPS[-1]), dtype="F16")
    branches["step32000"] = {**branches["step32000"], **finer.weights(LAST)}
    finding = only(look(hub, branches), "broken trajectory")
    assert finding.branches == ("step32000",)
    assert any("step31000" in line and "step33000" in line for line in finding.evidence)


# Row 3: pythia#202, #107, #94; OLMo#879


@pytest.mark.parametrize("gone", [(26_000,), (4000, 32_000), (64,), (142_000,)])
def test_row_3_missing_branches_are_found(hub, gone):
    names = [f"step{step}" for step in gone]
    branches = without(release(PYTHIA), names)
    branches["main"] = {**branches["main"], "README.md": card(PYTHIA, {"154 intermediate": f"{154 - len(gone)} intermediate"})}
    finding = only(look(hub, branches), "missing branches")
    assert finding.branches == tuple(names)


def test_row_3_a_card_that_still_counts_them_is_found_too(hub):
    kept = wrong(look(hub, without(release(PYTHIA), ["step26000"])))
    assert sorted(kept) == ["card numbers", "missing branches"]
    assert "154" in kept["card numbers"][0].problem and "153" in kept["card numbers"][0].problem


def test_row_3_branches_without_weights_are_found(hub):
    branches = release(SMALL)
    for name in ("step100", "step700"):
        branches[name] = settings(SMALL)
    finding = only(look(hub, branches), "missing weights")
    assert finding.branches == ("step100", "step700")


@pytest.mark.parametrize("form", ["safetensors", "pickles"])
def test_row_3_a_branch_without_one_of_its_shards_is_found(hub, form):
    branches = release(replace(SMALL, shards=3), form=form)
    shard = next(name for name in branches["step100"] if "00002-of-00003" in name)
    branches["step100"] = {name: content for name, content in branches["step100"].items() if name != shard}
    kept = wrong(look(hub, branches))
    assert [finding.branches for finding in kept["missing weights"]] == [("step100",)]
    assert shard in kept["missing weights"][0].problem
    assert kept.keys() <= {"missing weights", "pickles"}


def test_row_3_a_gap_of_two_hundred_thousand_steps_is_found(hub):
    steps = (*range(1000, 117_001, 1000), *range(330_000, 400_001, 1000))
    training = Training(steps)
    branches = release(training, name="step{step}-tokens{step}B")
    text = card(training, untold(training, "step{step}-tokens{step}B"))
    branches["main"] = {**branches["main"], "README.md": text}
    finding = only(look(hub, branches), "missing branches")
    assert len(finding.branches) == 212
    assert (finding.branches[0], finding.branches[-1]) == ("step118000", "step329000")


# Row 4: pythia#203


@pytest.mark.parametrize("steps", [SMALL.steps, (0, 1, 4, 16, 64, 256, 1000, 2000, 3000), (0, *range(1000, 20_001, 1000))])
def test_row_4_a_run_that_does_not_descend_from_its_first_weights_is_found(hub, steps):
    training = Training(steps, first_seed=7, hidden=64)
    finding = only(look(hub, release(training)), "no descent")
    assert finding.branches == ("step0", f"step{steps[1]}")


def test_row_4_a_run_that_goes_on_as_another_is_found(hub):
    branches, other = release(SMALL), release(replace(SMALL, seed=3))
    for step in (700, 800, 900, 1000):
        branches[f"step{step}"] = {**branches[f"step{step}"], "model.safetensors": other[f"step{step}"]["model.safetensors"]}
    branches["main"] = {**branches["main"], "model.safetensors": other["main"]["model.safetensors"]}
    finding = only(look(hub, branches), "broken trajectory")
    assert finding.branches == ("step600", "step700")


# Row 5: pythia#83, #198


@pytest.mark.parametrize("steps", [(0, 1), (0, 2), (0, 1, 2)])
def test_row_5_first_branches_that_are_alike_are_found(hub, steps):
    branches = release(SMALL)
    for step in steps:
        branches[f"step{step}"] = {**branches[f"step{step}"], **SMALL.weights(0)}
    finding = only(look(hub, branches), "identical weights")
    assert finding.branches == tuple(f"step{step}" for step in steps)
    assert finding.severity is (Severity.WARNING if steps != (0, 2) else Severity.ERROR)


# Row 11: pythia#144


def test_row_11_data_gone_through_more_than_once_without_a_word_of_when_are_found(hub):
    branches = release(SMALL)
    more = "It went through the data in 1.5 epochs, of a dataset of 1,365,333 tokens."
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=more)}
    assert only(look(hub, branches), "repeated data").evidence == (more,)
    branches["main"] = {**branches["main"], "order/order.json": settings(SMALL)["config.json"]}
    assert wrong(look(hub, branches)) == {}


def test_row_11_epochs_that_do_not_make_the_tokens_are_found(hub):
    branches = release(SMALL)
    more = "It went through the data in 0.9 epochs, of a dataset of 1,365,333 tokens."
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=more)}
    assert "epochs × data tokens" in only(look(hub, branches), "card numbers").problem


# Row 13: pythia#135


def test_row_13_first_weights_of_another_spread_than_declared_are_found(hub):
    finding = only(look(hub, release(replace(SMALL, std=0.02))), "first weights")
    assert finding.severity is Severity.ERROR and finding.branches == ("step0",)
    assert any("0.02" in line and "0.11" in line for line in finding.evidence)


# Row 14: pythia#171


def test_row_14_a_number_type_that_settings_or_card_contradict_is_found(hub):
    branches = release(SMALL)
    for name, files in branches.items():
        branches[name] = {**files, "config.json": settings(SMALL, config__json={"torch_dtype": "bfloat16"})["config.json"]}
    finding = only(look(hub, branches), "number types apart")
    assert "BF16" in finding.problem and "F32" in finding.problem and len(finding.branches) == 19


def test_row_14_a_card_that_says_another_number_type_is_found(hub):
    branches = release(SMALL)
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more="The model was trained in fp16.")}
    assert "F16" in only(look(hub, branches), "number types apart").problem


def test_row_14_a_branch_in_another_number_type_is_found(hub):
    branches = release(SMALL)
    branches["step300"] = {**branches["step300"], **SMALL.weights(10, dtype="F16")}
    kept = wrong(look(hub, branches))
    assert sorted(kept) == ["number types apart", "number types change"]
    assert {finding.branches for findings in kept.values() for finding in findings} == {("step300",)}


# Row 16: open-instruct PR 1839


@pytest.mark.parametrize(("layers", "deep"), [((0, 3), False), ((1, 2), True)])
def test_row_16_right_shaped_tensors_behind_each_others_names_are_found(hub, layers, deep):
    branches = release(SMALL)
    one, other = (f"gpt_neox.layers.{layer}.attention.dense.weight" for layer in layers)
    branches["step300"] = {**branches["step300"], **SMALL.weights(10, swapped={one: other, other: one})}
    finding = only(look(hub, branches, deep=deep), "broken trajectory")
    assert finding.branches == ("step300",)
    assert "in 2 tensors" in finding.problem and all("attention.dense.weight" in line for line in finding.evidence)


def test_row_16_norms_and_biases_that_are_no_first_weights_are_found(hub):
    names = {
        f"gpt_neox.layers.{n}.input_layernorm.weight": f"gpt_neox.layers.{n}.post_attention_layernorm.bias" for n in range(4)
    }
    swapped = names | {other: name for name, other in names.items()} | {
        "gpt_neox.final_layer_norm.bias": "gpt_neox.final_layer_norm.weight"
    }  # fmt: skip
    branches = release(SMALL)
    for place, step in enumerate(SMALL.steps):
        branches[f"step{step}"] = {**branches[f"step{step}"], **SMALL.weights(place, swapped=swapped)}
    branches["main"] = {**branches["main"], **SMALL.weights(len(SMALL.steps) - 1, swapped=swapped)}
    assert only(look(hub, branches), "first weights").severity is Severity.WARNING


# Row 17: the README's admission, gpt-neox#1231


def test_row_17_a_tokenizer_that_is_not_on_every_branch_is_found(hub):
    branches = release(SMALL)
    for name in ("step100", "step200"):
        branches[name] = {path: content for path, content in branches[name].items() if path != "tokenizer.json"}
    finding = only(look(hub, branches), "settings missing")
    assert finding.branches == ("step100", "step200") and finding.severity is Severity.ERROR


def test_row_17_another_tokenizer_on_a_branch_is_found(hub):
    branches = release(SMALL)
    changed = settings(SMALL, tokenizer__json={"normalizer": {"type": "Lowercase"}})
    branches["step100"] = {**branches["step100"], "tokenizer.json": changed["tokenizer.json"]}
    finding = only(look(hub, branches), "tokenizer changes")
    assert finding.branches == ("step100",) and "Lowercase" in finding.evidence[0]


def test_row_17_special_tokens_with_other_numbers_than_the_models_are_found(hub):
    branches = {name: {**files, **settings(SMALL, config__json={"eos_token_id": 5})} for name, files in release(SMALL).items()}
    finding = only(look(hub, branches), "special tokens")
    assert "eos_token_id 5" in finding.evidence[0] and len(finding.branches) == 19


# Row 21: OLMo#608, #697, #887; pythia#39, #142


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ("sapling was trained on 3T tokens.", ("3,000,000,000,000", "2,048,000")),
        ("sapling has 6 layers.", ("6", "4", "layers")),
        ("| Checkpoints | 12 |", ("12", "18")),
        ("sapling was trained for 2,000 steps.", ("2,000", "1,000")),
    ],
)
def test_row_21_numbers_on_the_card_that_contradict_it_or_the_model_are_found(hub, more, parts):
    branches = release(SMALL)
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=more)}
    finding = only(look(hub, branches), "card numbers")
    assert all(part in finding.problem for part in parts), finding.problem


def test_row_21_a_batch_that_does_not_make_the_tokens_is_found(hub):
    branches = release(SMALL)
    text = card(SMALL, {"with a batch size of 2,048 tokens": "with a batch size of 4M tokens"})
    branches["main"] = {**branches["main"], "README.md": text}
    assert "steps × batch tokens" in only(look(hub, branches), "card numbers").problem


def test_row_21_tokens_that_branch_names_contradict_are_found(hub):
    training = Training(tuple(range(0, 10_001, 500)))
    branches = release(training, name="stage1-step{step}-tokens{step}M")
    told = f"trained for 10,000 steps ({10_000 * 2048:,} tokens) with a batch size of 2,048 tokens"
    link = {'"step1500"': '"stage1-step1500-tokens1500M"'}
    good = card(training, {told: "trained for 10,000 steps (10B tokens) with a batch size of 1M tokens", **link})
    branches["main"] = {**branches["main"], "README.md": good}
    assert wrong(look(hub, branches)) == {}
    bad = card(training, {told: "trained for 10,000 steps (12.5B tokens) with a batch size of 1.25M tokens", **link})
    branches["main"] = {**branches["main"], "README.md": bad}
    kept = wrong(look(hub, branches))
    assert [re.sub(r"[^a-z ]", "", finding.problem)[:40] for finding in kept["card numbers"]] and list(kept) == ["card numbers"]
    assert len(kept["card numbers"]) == 2


# OLMo#915


def test_three_equal_branches_of_another_family_are_found(hub):
    steps = tuple(range(100_000, 302_000, 1000))
    training = Training(steps, shards=6)
    branches = release(training, name="stage1-step{step}-tokens{step}M")
    text = card(training, untold(training, "stage1-step{step}-tokens{step}M"))
    branches["main"] = {**branches["main"], "README.md": text}
    names = [f"stage1-step{step}-tokens{step}M" for step in (101_000, 175_000, 300_000)]
    for name in names:
        branches[name] = {**branches[name], **training.weights(steps.index(175_000))}
    finding = only(look(hub, branches), "identical weights")
    assert finding.branches == tuple(names)
    assert len([line for line in finding.evidence if "sha256:" in line]) == 3


# LLM360's names


def test_a_clean_release_whose_names_count_checkpoints_has_no_finding(hub):
    training = Training(tuple(range(40)))
    name = "ckpt_{step}"
    branches = release(training, name=name)
    text = card(
        training,
        {"trained for 39 steps": "trained for 160,000 steps", "(79,872 tokens)": "(328M tokens)", '"step3"': '"ckpt_3"'},
    )
    branches["main"] = {**branches["main"], "README.md": text}
    assert wrong(look(hub, branches)) == {}
    kept = wrong(look(hub, without(branches, ["ckpt_7"])))
    assert sorted(kept) == ["card numbers", "missing branches"] and kept["missing branches"][0].branches == ("ckpt_7",)
