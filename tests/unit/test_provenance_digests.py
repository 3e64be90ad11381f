"""Digests of content, keys derived from seeds, and the keyed hash: exact values, so that no release can drift unseen."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from treering.provenance.digests import derive_key, digest_bytes, digest_file, digest_value
from treering.provenance.hashing import keyed_hash


def test_the_digest_of_nothing_is_the_published_sha256() -> None:
    assert digest_bytes(b"") == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_equal_values_have_equal_digests_whatever_their_order() -> None:
    assert digest_value({"a": 1, "b": 2}) == digest_value({"b": 2, "a": 1})
    assert digest_value({"a": 1}) != digest_value({"a": 1.0})
    assert digest_value({"a": 1}) == digest_bytes(b'{"a":1}')


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000])
def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert digest_file(tmp_path / "file") == digest_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (("order", 1234), 16940727594428342068),
        (("order", 1234, 0), 3322312359087612554),
        (("order", 1234, 1), 15332907184681588286),
        (("weights", 1234, "gpt_neox.embed_in.weight"), 9872472843282717190),
        (("weights", 2**63 - 1, "é", 2**70), 758953017548444329),
    ],
)
def test_derived_keys_are_these_on_every_machine(arguments: tuple, key: int) -> None:
    assert derive_key(*arguments) == key


def test_a_key_is_the_first_eight_bytes_of_a_written_down_sha256() -> None:
    content = b'["treering/key","order",1234,0]'
    assert derive_key("order", 1234, 0) == int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def test_domain_seed_and_counters_never_run_into_one_another() -> None:
    keys = [
        derive_key("order", 1234),
        derive_key("order", 123, 4),
        derive_key("order", 1, 234),
        derive_key("order", 1, 2, 34),
        derive_key("order", 1, "234"),
        derive_key("order1", 234),
        derive_key("weights", 1234),
    ]
    assert len(set(keys)) == len(keys)


def test_the_keyed_hash_gives_these_words_on_every_machine() -> None:
    words = keyed_hash(np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64), np.uint64(7), np.uint64(2**63))
    assert words.tolist() == [8835106300138153352, 13991613479170724081, 4980925157477993479, 17911632255490965511]


def test_the_keyed_hash_is_splitmix64s_finaliser_twice() -> None:
    def finalised(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
        return word ^ (word >> 31)

    values = [0, 1, 5, 2**32, 2**63, 2**64 - 1]
    expected = [finalised(finalised(value ^ 11) ^ 13) for value in values]
    assert keyed_hash(np.array(values, dtype=np.uint64), np.uint64(11), np.uint64(13)).tolist() == expected
