"""Presets: what they spell out, and how a recipe's own fields stand over them."""

import pytest

from treering.config.presets import PresetError, apply_preset, load_preset, preset_names
from treering.config.schema import ModelSection


def test_there_is_a_preset_for_every_pythia_and_one_for_the_quickstart() -> None:
    sizes = ("14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
    assert set(preset_names()) == {"sapling", *(f"pythia-{size}" for size in sizes)}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_spells_out_every_field_that_decides_bits(name: str) -> None:
    spelled = load_preset(name)
    assert set(spelled) == set(ModelSection.model_fields) - {"seed"}
    section = ModelSection.model_validate(spelled)
    assert section == ModelSection.model_validate({"preset": name})
    assert section.model_dump(exclude={"seed", "initialisation"}) == {
        field: value for field, value in spelled.items() if field != "initialisation"
    }


def test_a_recipes_own_field_stands_over_the_presets() -> None:
    section = ModelSection.model_validate({"preset": "sapling", "num_hidden_layers": 2, "initialisation": {"method": "normal"}})
    assert section.num_hidden_layers == 2
    assert section.initialisation.method == "normal"
    assert section.initialisation.output_method == load_preset("sapling")["initialisation"]["output_method"]


def test_another_width_brings_its_own_mlp_width() -> None:
    assert ModelSection.model_validate({"preset": "sapling", "hidden_size": 64}).intermediate_size == 256
    assert (
        ModelSection.model_validate({"preset": "sapling", "hidden_size": 64, "intermediate_size": 100}).intermediate_size == 100
    )


def test_applying_a_preset_leaves_the_section_and_the_preset_as_they_were() -> None:
    section = {"preset": "sapling", "initialisation": {"method": "normal"}}
    first = apply_preset(section)
    first["vocab_size"] = 1
    assert section == {"preset": "sapling", "initialisation": {"method": "normal"}}
    assert apply_preset(section)["vocab_size"] == 4096


@pytest.mark.parametrize(
    ("name", "hint"), [("pythia-14", "did you mean `pythia-14m`"), ("zzz", "there are: pythia-1.4b,"), (3, "there are:")]
)
def test_an_unknown_preset_is_refused_with_the_nearest(name: object, hint: str) -> None:
    with pytest.raises(PresetError, match=hint):
        apply_preset({"preset": name})
