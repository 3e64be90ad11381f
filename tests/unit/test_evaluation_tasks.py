"""The items of treering's own tasks."""

import pytest
from evaluation_making import addresses, documents, material
from hypothesis import given
from hypothesis import strategies as st

from treering.errors import CorpusError
from treering.evaluation.tasks import heldout_continuation, heldout_perplexity, number_agreement
from treering.evaluation.tasks.catalogue import OWN_TASKS, own_task
from treering.evaluation.tasks.passages import cut_passages
from treering.provenance.digests import digest_value

HELD_OUT = documents(addresses(6, 9000))


@given(st.text(alphabet="ab \n\u00e9", max_size=200), st.integers(min_value=1, max_value=40))
def test_passages_are_the_text_without_the_white_space_at_their_borders(text: str, size: int) -> None:
    passages = list(cut_passages("id", text, size))
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())
    for passage in passages:
        assert 0 < len(passage.text) <= size
        assert passage.text == passage.text.strip()
        assert text[passage.start :].lstrip().startswith(passage.text)


@pytest.mark.parametrize("task", [heldout_perplexity, heldout_continuation, number_agreement])
def test_items_are_the_same_whatever_the_order_of_the_documents(task) -> None:
    assert task.build_items(material(HELD_OUT)) == task.build_items(material(HELD_OUT[::-1]))


def test_perplexity_items_are_passages_of_held_out_documents() -> None:
    items = heldout_perplexity.build_items(material(HELD_OUT))
    texts = {document.id: document.text for document in HELD_OUT}
    assert len(items) == sum(len(list(cut_passages("", text, 1000))) for text in texts.values())
    assert all(item["text"] in texts[item["document"]] for item in items)


def test_a_continuation_follows_its_context_and_distractors_come_from_other_documents() -> None:
    flat = {document.id: " ".join(document.text.split()) for document in HELD_OUT}
    items = heldout_continuation.build_items(material(HELD_OUT))
    assert 100 <= len(items) <= 200
    for item in items:
        own = flat[item["document"]]
        assert f"{item['context']} {item['choices'][item['answer']]}" in own
        distractors = [choice for place, choice in enumerate(item["choices"]) if place != item["answer"]]
        assert len(set(item["choices"])) == 4
        assert all(
            any(choice in text for identifier, text in flat.items() if identifier != item["document"]) for choice in distractors
        )
    assert {item["answer"] for item in items} == {0, 1, 2, 3}


def test_items_too_long_for_the_model_are_left_out() -> None:
    longest = 338
    items = heldout_continuation.build_items(material(HELD_OUT, most_tokens=longest + 1))
    everything = heldout_continuation.build_items(material(HELD_OUT))
    assert 0 < len(items) < len(everything)
    assert all(len(f"{item['context']} {choice}".encode()) <= longest for item in items for choice in item["choices"])


@pytest.mark.parametrize(
    ("task", "held_out"),
    [
        (heldout_perplexity, []),
        (heldout_continuation, []),
        (heldout_continuation, HELD_OUT[:1]),
        (heldout_continuation, documents(["Too short.", "This too.", "And this."])),
    ],
)
def test_too_little_held_out_text_is_refused_with_the_name_of_the_task(task, held_out) -> None:
    with pytest.raises(CorpusError, match=task.__name__.rpartition(".")[2]):
        task.build_items(material(held_out))


def test_a_model_that_can_read_no_item_is_refused() -> None:
    with pytest.raises(CorpusError, match="number_agreement"):
        number_agreement.build_items(material([], most_tokens=20))


def test_agreement_pairs_differ_in_one_verb_and_are_balanced() -> None:
    items = number_agreement.build_items(material([]))
    assert len(items) == len({item["sentences"][item["answer"]] for item in items}) == 400
    verbs = {
        verb: number
        for predicate in number_agreement.PREDICATES
        for verb, number in zip(predicate[:2], ("singular", "plural"), strict=True)
    }
    for item in items:
        first, second = (sentence.split() for sentence in item["sentences"])
        [(one, other)] = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
        agreeing, wrong = (other, one) if item["answer"] else (one, other)
        assert (verbs[agreeing], verbs[wrong] != verbs[agreeing]) == (item["subject_number"], True)
    for construction in {item["construction"] for item in items}:
        numbers = [item["subject_number"] for item in items if item["construction"] == construction]
        assert numbers.count("singular") == numbers.count("plural") == 50
    answers = [item["answer"] for item in items]
    assert 160 < sum(answers) < 240  # four standard deviations of a fair coin


def test_nouns_between_subject_and_verb_have_the_other_number() -> None:
    numbers = {
        noun: number for pair in number_agreement.BETWEEN for noun, number in zip(pair, ("singular", "plural"), strict=True)
    }
    items = number_agreement.build_items(material([]))
    for item in items:
        words = item["sentences"][0].rstrip(".").split()
        verb = next(place for place, word in enumerate(words) if word != item["sentences"][1].rstrip(".").split()[place])
        between = [numbers[word] for word in words[2:verb] if word in numbers]
        assert all(number != item["subject_number"] for number in between)
        expected = {"nothing between": 0, "a noun between": 1, "two nouns between": 2, "a relative clause between": 1}
        assert len(between) == expected[item["construction"]]


def test_no_noun_is_both_a_subject_and_between() -> None:
    assert not set(number_agreement.SUBJECTS) & set(number_agreement.BETWEEN)


def test_agreement_items_are_these_on_every_machine() -> None:
    items = number_agreement.build_items(material([]))
    assert items[0] == {
        "construction": "nothing between",
        "subject_number": "singular",
        "sentences": ["The question does not affect the public credit.", "The question do not affect the public credit."],
        "answer": 0,
    }
    assert digest_value(items) == "sha256:b8634ebfb141f0297e8dc59d2cb11858c7c835ff5d52278ef8820e4e60592b95"


@pytest.mark.parametrize("name", OWN_TASKS)
def test_every_own_task_says_what_it_measures_and_its_chance_belongs_to_its_metrics(name: str) -> None:
    definition = own_task(name)
    metrics = [metric["metric"] for metric in definition.config["metric_list"]]
    assert definition.name == name
    assert len(definition.what_it_measures) > 20
    assert next(iter(definition.data_files.values())).name == f"{name}.jsonl"
    assert set(definition.chance) <= set(metrics)
