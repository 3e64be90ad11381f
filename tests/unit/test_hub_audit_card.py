"""What a card says: its numbers read and compared, and its words."""

import re

import pytest
from hub_audit_making import NAME, Training, card, release

from treering.hub.audit.card import check_card_numbers
from treering.hub.audit.card_text import check_card_text
from treering.hub.audit.contents import Contents
from treering.hub.audit.findings import Finding
from treering.hub.audit.headers import read_header
from treering.hub.audit.statements import sentences_of, statements_of, title_of
from treering.hub.branches import place_of
from treering.hub.listed import Branch, FileFact, Listing

SMALL = Training(steps=(0, 1, 2, 4, 8))


def with_card(text: str, training: Training = SMALL, name: str = NAME, **changes: object) -> Contents:
    """A release that was read, with a card."""
    contents = Contents(Listing(name, (), None, (), lambda *_: b""))
    branches = []
    for branch, files in release(training).items():
        facts = {path: FileFact(path, content.size, content.digest) for path, content in files.items()}
        contents.texts |= {content.digest: content.read(0, content.size) for content in files.values() if not content.large}
        for content in files.values():
            if content.large:
                contents.headers[content.digest] = read_header(content.read, content.size, branch)
        branches.append(Branch(branch, place_of(branch), "step" if place_of(branch) else "", None, facts))
    *steps, main = branches
    main.files["README.md"] = FileFact("README.md", len(text), "card")
    contents.texts["card"] = text.encode()
    names = tuple(branch.name for branch in branches)
    contents.listing = Listing(name, tuple(steps), main, names, lambda *_: b"")
    return contents


def text_of(more: str = "", changes: dict[str, str] | None = None) -> str:
    return card(SMALL, changes, more).content.decode()


def numbers(text: str, name: str = NAME) -> list[Finding]:
    return list(check_card_numbers(with_card(text, name=name)))


def words(text: str) -> list[str]:
    return [finding.check for finding in check_card_text(with_card(text))]


def stated(text: str, name: str = "acme/sapling-12b") -> set[tuple[str, float, bool]]:
    return {(one.quantity, one.value, one.sure) for one in statements_of(text, name)}


def test_in_a_right_card_nothing_is_found():
    assert numbers(text_of()) == [] and words(text_of()) == []


@pytest.mark.parametrize(
    ("sentence", "quantity", "value"),
    [
        ("The model has 36 layers.", "layers", 36),
        ("It has 36 transformer layers.", "layers", 36),
        ("sapling-12b has a hidden dimension of 5,120 and 40 attention heads.", "hidden", 5120),
        ("It has a context length of 2048 tokens.", "context", 2048),
        ("This model has a total of 11.8B parameters.", "parameters", 11.8e9),
        ("sapling-12b is a 12B parameter language model.", "parameters", 12e9),
        ("The model was trained for 143,000 steps.", "steps", 143_000),
        ("The model was trained on 300B tokens.", "trained tokens", 3e11),
        ("The model was trained on 4 trillion tokens.", "trained tokens", 4e12),
        ("It saw 299,892,736,000 tokens during training.", "trained tokens", 299_892_736_000),
        ("It used a batch size of 2M tokens.", "batch tokens", 2e6),
        ("Its vocabulary of 50,257 is GPT-2's.", "vocabulary", 50_257),
        ("We provide 154 intermediate\ncheckpoints per model.", "checkpoints", 154),
        ("It went through the data in 1.5 epochs.", "epochs", 1.5),
        ("Loading it in fp16 requires approximately 24 GB of memory.", "bytes in fp16", 24e9),
        ("The full fp32 weights are 47.4 GB on disk.", "bytes in fp32", 47.4e9),
    ],
)
def test_numbers_in_sentences_are_read(sentence, quantity, value):
    assert (quantity, value, True) in stated(sentence)


@pytest.mark.parametrize(
    "sentence",
    ["Other models of size 160M and 1.4B parameters were trained before.", "GPT-Neo has 32 layers.", "Models have 12 heads."],
)
def test_numbers_of_whoever_are_not_sure(sentence):
    assert stated(sentence) and not any(sure for *_, sure in stated(sentence))


@pytest.mark.parametrize(
    "text", ["", "No numbers here.", "version 1.2.3", "```\nThe model has 36 layers.\n```", "---\nlayers: 36\n---\n"]
)
def test_other_text_states_nothing(text):
    assert stated(text) == set()


TABLE = """
| Size | Training Tokens | Layers | Model Dim | Heads | Context Length | total params |
| --- | --- | --- | --- | --- | --- | --- |
| 7B | 4 Trillion | 32 | 4096 | 32 | 4096 | 7,000,000,000 |
| **12B** | 5 Trillion | 36 | 5120 | 42 | 4096 | 11,846,072,320 |
"""


def test_of_a_table_of_several_models_the_own_row_is_read():
    found = stated(TABLE)
    assert {("layers", 36.0, True), ("heads", 42.0, True), ("parameters", 11_846_072_320.0, True)} <= found
    assert not any(value in (32.0, 4e12) for _, value, _ in found)
    linked = TABLE.replace("**12B**", "[Sapling](https://huggingface.co/acme/sapling)")
    assert ("heads", 42.0, True) in stated(linked, "acme/sapling") and stated(linked, "acme/other") == set()
    of_branch = linked.replace("acme/sapling)", "acme/sapling/tree/step8)")
    assert ("heads", 42.0, True) in stated(of_branch, "acme/sapling") and stated(of_branch, "acme/sap") == set()


@pytest.mark.parametrize(
    ("card", "title"),
    [
        ("---\nlicense: mit\n---\n\n# Sapling 12B\n\n# Use\n", "Sapling 12B"),
        ("# Model Card for `sapling-12b`\n", "sapling-12b"),
        ("# Model card: Sapling\n", "Sapling"),
        ("```\n# a comment\n```\n## Use\n", ""),
        ("# " + " " * 1_000_000 + "x", ""),
        ("", ""),
    ],
)
def test_a_card_has_a_title_or_none(card, title):
    assert title_of(card) == title


def test_whose_a_number_is_follows_from_the_whole_name():
    assert ("layers", 36.0, True) in stated("Sapling 12B has 36 layers.", "Sapling 12B")
    assert ("layers", 36.0, False) in stated("Sapling 12B has 36 layers.", "")
    assert ("layers", 36.0, False) in stated("Saplings have 36 layers.", "acme/sapling")
    assert ("heads", 42.0, True) in stated(TABLE, "Sapling 12B")


def test_without_a_repositorys_name_the_cards_title_says_whose_numbers_they_are():
    assert [finding.check for finding in numbers(text_of("sapling uses 7 layers."), "")] == ["card numbers"]
    assert numbers(text_of("seedling uses 7 layers."), "") == []


def test_sentences_are_put_together_from_lines_and_parted_again():
    text = "One is\nhere. two is there.\n\n- a list\n- of two\n# A title\n| a | b |\nMore, e.g. this."
    assert sentences_of(text) == ["One is here.", "two is there.", "- a list", "- of two", "# A title", "More, e.g. this."]


def test_a_long_card_is_read_in_no_time():
    for text in (
        "a" * 1_000_000,
        "{a" * 300_000,
        "```\n~~~\n" * 100_000,
        "| a " * 200_000,
        "1 " * 400_000,
        "every 1 steps " * 60_000,
    ):
        list(statements_of(text[:1_000_000], "acme/x"))
        words(text_of(text))


# Numbers against the model


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("| Layers | 4 |", "| Layers | 5 |"),
        ("| Hidden Dimension | 32 |", "| Hidden Dimension | 64 |"),
        ("| Attention Heads | 4 |", "| Attention Heads | 8 |"),
        ("| Context Length | 2,048 tokens |", "| Context Length | 4,096 tokens |"),
        ("| Vocabulary Size | 128 |", "| Vocabulary Size | 50,257 |"),
        ("| Parameters | ", "| Parameters | 9"),
        ("with 5 intermediate", "with 12 intermediate"),
        ("approximately 0.000 GB", "approximately 2 GB"),
        ("weights are 0.000 GB", "weights are 1.5 MB"),
        ("trained for 8 steps", "trained for 9 steps"),
    ],
)
def test_a_wrong_number_is_found(old, new):
    finding, *_ = numbers(text_of(changes={old: new}))
    assert finding.check == "card numbers" and finding.evidence


def test_rounded_numbers_are_right():
    rounded = f"{SMALL.parameters / 1e6:.2f}M"
    assert numbers(text_of(f"This model has {rounded} parameters.")) == []
    assert len(numbers(text_of("This model has 0.30M parameters."))) == 1


def test_parameters_without_embeddings_are_right_too():
    inner = SMALL.parameters - 2 * SMALL.vocabulary * SMALL.hidden
    assert numbers(text_of(f"This model has {inner:,} parameters.")) == []


def test_gibibytes_are_right_too():
    training = Training(hidden=512, layers=12, vocabulary=50_000)
    assert 2 * training.parameters > 1.5e8
    text = card(training).content.decode()
    mebibytes = f"{2 * training.parameters / 1024**2:.0f} MB"
    changed = re.sub(r"approximately [\d.]+ GB", f"approximately {mebibytes}", text)
    assert list(check_card_numbers(with_card(changed, training))) == []


def test_counts_of_some_of_the_checkpoints_are_right_beside_that_of_all():
    assert numbers(text_of("It has 4 log-spaced checkpoints and 1 checkpoints.")) == []


# Words


@pytest.mark.parametrize(
    "text",
    ["It was trained on {dataset}.", '{What makes it distinctive -- e.g., "x"}', "[More Information Needed]", "TODO",
     '```python\nload("acme/{model-name}")\n```', "a total of {X}B parameters"],
)  # fmt: skip
def test_what_was_left_to_fill_in_is_found(text):
    assert words(text_of(text)) == ["card placeholders"]


@pytest.mark.parametrize(
    "text",
    ["`step{1,2,4...512}`", "$\\text{loss}$ and $x_{a}$", '```python\nprint(f"{loss}")\n"{x}".format(x=1)\nd = {"a": 1}\n```',
     "`{placeholder}` stands for a name", "```bibtex\n@misc{name, title={Title}}\n```", "a {1} b"],
)  # fmt: skip
def test_braces_that_are_meant_are_not_told(text):
    assert words(text_of(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "See `step3`.",
        f"[it](https://huggingface.co/{NAME}/tree/step3)",
        '```\nload(revision="step3")\n```',
        "hf download x --revision step3",
    ],
)
def test_links_to_branches_that_are_not_there_are_found(text):
    assert words(text_of(text)) == ["card links"]


@pytest.mark.parametrize(
    "text",
    ["See `step4`, `main`, `dev` and `iter_7`.", "[other](https://huggingface.co/acme/other/tree/step3)", '`revision="main"`',
     '```\nfor step in steps:\n    load(revision=f"step{step}")\n```', "https://github.com/acme/x/tree/main/docs is elsewhere"],
)  # fmt: skip
def test_links_to_what_is_there_or_elsewhere_are_not_told(text):
    assert words(text_of(text)) == []


def test_licenses_are_compared():
    assert words(text_of("License: MIT")) == ["card license"]
    assert words(text_of("License: Apache 2.0")) == []
    assert words(text_of(changes={"license: apache-2.0\n": ""})) == ["card license"]
    assert words("no metadata at all") == ["card license"]


def test_a_release_without_a_card_is_told():
    contents = with_card("")
    del contents.listing.main.files["README.md"]
    assert [finding.check for finding in check_card_text(contents)] == ["card"]


def test_a_release_without_main_has_no_card_to_miss():
    contents = with_card("")
    contents.listing = Listing(NAME, contents.listing.branches, None, (), lambda *_: b"")
    assert list(check_card_text(contents)) == [] and list(check_card_numbers(contents)) == []


def test_number_types_are_compared():
    assert words(text_of("The model was trained in bfloat16.")) == ["number types apart"]
    assert words(text_of("The model was trained in bf16, its weights are published in fp32.")) == []


def test_a_strangers_text_is_shown_on_one_line_without_what_a_terminal_obeys():
    (finding,) = check_card_text(with_card(text_of("It has {a\x1b[31m\x07 name\u202e of anything}.")))
    assert all(line.isprintable() for line in finding.evidence)
