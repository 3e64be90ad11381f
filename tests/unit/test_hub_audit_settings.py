"""Settings, tokenizers, tensors and files of branches, each wrong in one way, and each right."""

from dataclasses import replace
from typing import Any

import pytest
from hub_audit_making import NAME, Branches, Hub, Shard, Training, Whole, card, document, release, settings

from treering.errors import InputError
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.release import Wanted, audit
from treering.hub.audit.special import contradictions, token_numbers
from treering.hub.audit.versions import differences

SMALL = Training(steps=(0, 1, 2, 4, 8))


def look(hub: Hub, branches: Branches, deep: bool = False) -> list[Finding]:
    hub.add(branches)
    return list(audit(NAME, Wanted(hub.endpoint, deep=deep)).findings)


def everywhere(branches: Branches, **changes: Any) -> Branches:
    """A release with settings changed on every branch."""
    return {name: {**files, **settings(SMALL, **changes)} for name, files in branches.items()}


def one(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


# The same on every branch


@pytest.mark.parametrize(
    ("file", "change", "check", "severity"),
    [
        ("config__json", {"rotary_pct": 0.5}, "settings change", Severity.ERROR),
        ("tokenizer_config__json", {"add_prefix_space": True}, "settings change", Severity.WARNING),
        ("generation_config__json", {"temperature": 0.5}, "settings change", Severity.NOTE),
        ("tokenizer__json", {"version": "2.0"}, "tokenizer changes", Severity.ERROR),
    ],
)
def test_settings_that_change_on_a_branch_are_found(hub, file, change, check, severity):
    branches = release(SMALL)
    changed = settings(SMALL, **{file: change})
    branches["step2"] = {**branches["step2"], file.replace("__", "."): changed[file.replace("__", ".")]}
    finding = one(look(hub, branches))
    assert (finding.check, finding.severity, finding.branches) == (check, severity, ("step2",))
    assert next(iter(change)) in finding.evidence[0]


@pytest.mark.parametrize("change", [{"transformers_version": "4.0"}, {"_name_or_path": "x"}, {"use_cache": False}])
def test_settings_that_say_nothing_of_the_model_may_change(hub, change):
    branches = release(SMALL)
    branches["step2"] = {**branches["step2"], **settings(SMALL, config__json=change)}
    assert look(hub, branches) == []


def test_a_number_type_by_its_new_name_is_no_change(hub):
    branches = release(SMALL)
    config = {("dtype" if key == "torch_dtype" else key): value for key, value in SMALL.config.items()}
    branches["step2"] = {**branches["step2"], "config.json": document(config)}
    assert look(hub, branches) == []


@pytest.mark.parametrize(
    ("path", "severity"),
    [("config.json", Severity.ERROR), ("tokenizer_config.json", Severity.WARNING), ("generation_config.json", Severity.NOTE)],
)
def test_settings_that_a_branch_lacks_are_found(hub, path, severity):
    branches = release(SMALL)
    branches["step2"] = {name: content for name, content in branches["step2"].items() if name != path}
    finding = next(finding for finding in look(hub, branches) if finding.check == "settings missing")
    assert (finding.severity, finding.branches) == (severity, ("step2",))


def test_tensors_of_other_shapes_on_a_branch_are_found(hub):
    branches = release(SMALL)
    branches["step2"] = {**branches["step2"], **replace(SMALL, hidden=64).weights(2)}
    finding = next(finding for finding in look(hub, branches) if finding.check == "shapes change")
    assert finding.branches == ("step2",) and "(128, 64), elsewhere (128, 32)" in " ".join(finding.evidence)


def test_a_layer_that_lacks_a_tensor_is_found_on_all_branches(hub):
    lost = "gpt_neox.layers.2.mlp.dense_h_to_4h.bias"
    shapes = {name: shape for name, shape in SMALL.shapes.items() if name != lost}
    branches = release(SMALL)
    for place, name in [*enumerate(f"step{step}" for step in SMALL.steps), (4, "main")]:
        branches[name] = {**branches[name], "model.safetensors": Shard(SMALL, place, shapes)}
    finding = one(look(hub, branches))
    assert finding.check == "layers incomplete" and len(finding.branches) == 6
    assert finding.evidence == ("gpt_neox.layers.*.mlp.dense_h_to_4h.bias in layer 2",)


def test_a_layer_of_another_kind_lacks_nothing(hub):
    shapes = {name.replace("layers.0.mlp.dense", "layers.0.moe.expert"): shape for name, shape in SMALL.shapes.items()}
    branches = release(SMALL)
    for place, name in [*enumerate(f"step{step}" for step in SMALL.steps), (4, "main")]:
        branches[name] = {**branches[name], "model.safetensors": Shard(SMALL, place, shapes)}
    assert look(hub, branches) == []


def test_weights_that_are_no_numbers_are_found(hub):
    branches = release(SMALL)
    branches["step4"] = {**branches["step4"], **SMALL.weights(3, broken="embed_out.weight")}
    finding = one(look(hub, branches))
    assert (finding.check, finding.branches) == ("not finite", ("step4",))
    assert finding.evidence[0].startswith("embed_out.weight: 58")


def test_weights_that_are_no_numbers_where_few_are_read_are_found_by_reading_all(hub):
    branches = release(SMALL)
    branches["step4"] = {**branches["step4"], **SMALL.weights(3, broken="gpt_neox.layers.1.attention.dense.bias")}
    assert look(hub, branches) == []
    finding = one(look(hub, branches, deep=True))
    assert (finding.check, finding.branches) == ("not finite", ("step4",))


def test_bytes_that_are_not_those_listed_are_found_by_reading_all(hub):
    class Rotten(Shard):
        def read(self, start: int, stop: int) -> bytes:
            content = bytearray(super().read(start, stop))
            if stop > self.size - 8 and hasattr(self, "rotten"):
                content[-1] ^= 1
            return bytes(content)

    branches, content = release(SMALL), Rotten(SMALL, 2, SMALL.shapes)
    content.rotten = True
    branches["step2"] = {**branches["step2"], "model.safetensors": content}
    assert look(hub, branches) == []
    finding = one(look(hub, branches, deep=True))
    assert (finding.check, finding.branches) == ("other bytes", ("step2",))


# Files


def test_an_index_of_other_files_is_found(hub):
    training = replace(SMALL, shards=2)
    branches = release(training)
    one_, other = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
    placed = {tensor: other if tensor in training.parts()[0] else one_ for tensor in training.shapes}
    branches["step2"] = {**branches["step2"], "model.safetensors.index.json": document({"weight_map": placed})}
    finding = one(look(hub, branches))
    assert (finding.check, finding.branches) == ("index apart", ("step2",))
    assert look(hub, release(training)) == []


def test_pickles_beside_safetensors_are_a_note(hub):
    branches = release(SMALL)
    branches["step2"] = {**branches["step2"], "training_args.bin": Whole(b"x", large=True)}
    finding = one(look(hub, branches))
    assert (finding.check, finding.severity, finding.branches) == ("pickles", Severity.NOTE, ("step2",))


def test_code_that_is_to_be_run_is_found(hub):
    found = look(hub, everywhere(release(SMALL), config__json={"auto_map": {"AutoModel": "x.Y"}}))
    assert one(found).check == "code"


@pytest.mark.parametrize("text", ["We release optimizer states for every checkpoint.", "The optimizer state is included."])
def test_optimizer_states_that_are_promised_and_not_there_are_found(hub, text):
    branches = release(SMALL)
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=text)}
    assert one(look(hub, branches)).check == "optimizer states"
    branches["step2"] = {**branches["step2"], "optimizer.safetensors": Whole(b"x", large=True)}
    assert look(hub, branches) == []


@pytest.mark.parametrize(
    "text",
    ["Optimizer states are not available.", "Optimizer states are available [here](https://x.example).", "We use AdamW."],
)
def test_optimizer_states_that_are_not_promised_are_not_missed(hub, text):
    branches = release(SMALL)
    branches["main"] = {**branches["main"], "README.md": card(SMALL, more=text)}
    assert look(hub, branches) == []


def test_a_main_that_is_not_the_last_step_is_found(hub):
    branches = release(SMALL)
    branches["main"] = {**branches["main"], **SMALL.weights(3)}
    finding = one(look(hub, branches))
    assert (finding.check, finding.branches) == ("main is not the last", ("main", "step8"))


def test_a_main_that_was_saved_anew_in_another_number_type_is_the_last_still(hub):
    branches = release(SMALL)
    shared = settings(SMALL, config__json={"torch_dtype": "float16"})
    branches["main"] = {**branches["main"], **SMALL.weights(4, dtype="F16"), "config.json": shared["config.json"]}
    assert {finding.check for finding in look(hub, branches)} == {"number types change", "settings change"}


def test_a_first_branch_with_the_last_weights_is_found(hub):
    branches = release(SMALL)
    branches["step0"] = {**branches["step0"], **SMALL.weights(4)}
    checks = {finding.check: finding for finding in look(hub, branches)}
    assert checks.keys() == {"first is last", "identical weights"}
    assert checks["first is last"].branches == ("step0", "step8")


# Folders


def test_a_folder_is_looked_at_as_a_repository_is(hub, tmp_path):
    branches = release(SMALL)
    for name, files in branches.items():
        for path, content in files.items():
            (tmp_path / "release" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "release" / name / path).write_bytes(content.read(0, content.size))
    found = audit(str(tmp_path / "release"))
    assert list(found.findings) == []
    assert found.record()["looked_at"] == {"branches": 6, "weights": 6, "deep": False}
    (tmp_path / "release" / "step2" / "model.safetensors").write_bytes(branches["step1"]["model.safetensors"].read(0, 10**9))
    assert one(list(audit(str(tmp_path / "release")).findings)).check == "identical weights"


def test_a_model_by_itself_is_looked_at_as_main(tmp_path):
    for path, content in release(SMALL)["main"].items():
        (tmp_path / path).write_bytes(content.read(0, content.size))
    assert {finding.check for finding in audit(str(tmp_path)).findings} == {"card links"}


def test_a_folder_without_anything_is_refused(tmp_path):
    with pytest.raises(InputError, match="no revisions"):
        audit(str(tmp_path))
    with pytest.raises(InputError, match="no such folder"):
        audit(str(tmp_path / "none"))


# transformers 4 and 5

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False}
TOKENIZER = {"added_tokens": [{"id": 0, "content": "<|endoftext|>"}], "pre_tokenizer": BYTE_LEVEL, "model": {"vocab": {"a": 1}}}
NEOX = {"model_type": "gpt_neox"}
NAMES = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
ROPE = {"rope_theta": 500_000, "partial_rotary_factor": 0.5}


@pytest.mark.parametrize(
    ("config", "chosen", "tokenizer", "part"),
    [
        (NEOX, {**NAMES, "tokenizer_class": "TokenizersBackend"}, TOKENIZER, "transformers 4 cannot load"),
        (
            NEOX,
            {**NAMES, "tokenizer_class": "GPTNeoXTokenizerFast"},
            {**TOKENIZER, "pre_tokenizer": {"type": "Digits"}},
            "pre_tokenizer",
        ),
        (NEOX, NAMES, {**TOKENIZER, "normalizer": {"type": "Lowercase"}}, "normalizer"),
        (NEOX, {**NAMES, "tokenizer_class": "PreTrainedTokenizerFast"}, TOKENIZER, "token_type_ids"),
        ({**NEOX, "rope_parameters": ROPE}, {}, {}, "rotary angles"),
        ({**NEOX, "rope_parameters": ROPE, "rotary_pct": 0.5}, {}, {}, "rotary angles"),
    ],
)
def test_what_the_versions_load_differently_is_found(config, chosen, tokenizer, part):
    found = list(differences(config, chosen, tokenizer))
    assert len([told for told in found if part in told[0]]) == len(found) > 0


def test_special_tokens_that_one_version_makes_up_are_found():
    chosen = {"tokenizer_class": "GPTNeoXTokenizerFast", "bos_token": "<s>", "eos_token": "<s>", "unk_token": "<s>"}
    (told,) = differences(NEOX, chosen, TOKENIZER)
    assert "adds a pad_token" in told[0] and told[1] is Severity.ERROR
    padded = {**TOKENIZER, "added_tokens": [*TOKENIZER["added_tokens"], {"id": 2, "content": "<|padding|>"}]}
    (told,) = differences(NEOX, chosen, padded)
    assert "pad token where version 4 has none" in told[0] and told[1] is Severity.NOTE


@pytest.mark.parametrize(
    ("config", "chosen", "tokenizer"),
    [
        (NEOX, {**NAMES, "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids"]}, TOKENIZER),
        (NEOX, {**NAMES, "tokenizer_class": "GPTNeoXTokenizerFast"}, {**TOKENIZER, "normalizer": {"type": "NFC"}}),
        ({"model_type": "olmo2"}, {"tokenizer_class": "GPT2Tokenizer"}, {**TOKENIZER, "pre_tokenizer": {"type": "Split"}}),
        ({**NEOX, "rope_parameters": ROPE, "rotary_pct": 0.5, "rotary_emb_base": 500_000}, {}, {}),
        ({**NEOX, "rope_parameters": {"rope_theta": 10_000, "partial_rotary_factor": 0.25}}, {}, {}),
        (NEOX, {}, {}),
    ],
)
def test_what_both_versions_load_alike_is_not_told(config, chosen, tokenizer):
    assert list(differences(config, chosen, tokenizer)) == []


def test_differences_are_told_once_with_all_branches(hub):
    found = look(hub, everywhere(release(SMALL), tokenizer_config__json={"tokenizer_class": "TokenizersBackend"}))
    finding = one(found)
    assert finding.check == "transformers 4 and 5" and len(finding.branches) == 6


# Special tokens


@pytest.mark.parametrize(
    ("documents", "part"),
    [
        ({"tokenizer_config.json": {"eos_token": "<end>"}}, "the eos token is not in the tokenizer"),
        (
            {"tokenizer_config.json": {"eos_token": {"content": "a"}}, "config.json": {"eos_token_id": 0}},
            "eos token of config.json",
        ),
        (
            {"tokenizer_config.json": {"pad_token": "a"}, "generation_config.json": {"pad_token_id": 3}},
            "generation_config.json",
        ),
        ({"config.json": {"vocab_size": 1}}, "without a row in the embedding"),
    ],
)
def test_contradictions_about_special_tokens_are_found(documents, part):
    ((problem, _),) = contradictions({"tokenizer.json": TOKENIZER, **documents})
    assert part in problem


@pytest.mark.parametrize(
    "documents",
    [
        {"tokenizer_config.json": {"eos_token": "a"}, "config.json": {"eos_token_id": 1, "vocab_size": 2}},
        {"tokenizer_config.json": {"eos_token": "a"}, "generation_config.json": {"eos_token_id": [1, 0]}},
        {"tokenizer_config.json": {"eos_token": None, "pad_token": 3}, "config.json": {"eos_token_id": 7}},
        {},
    ],
)
def test_special_tokens_that_agree_are_not_told(documents):
    assert list(contradictions({"tokenizer.json": TOKENIZER, **documents})) == []


def test_tokens_are_numbered_in_each_form_of_vocabulary():
    assert token_numbers(TOKENIZER) == {"<|endoftext|>": 0, "a": 1}
    assert token_numbers({"model": {"vocab": [["x", -1.0], ["y", -2.0]]}}) == {"x": 0, "y": 1}
    assert token_numbers({"model": 3, "added_tokens": [{"id": "x"}, 4]}) == {}
    assert list(contradictions({"tokenizer_config.json": {"eos_token": "x"}})) == []
