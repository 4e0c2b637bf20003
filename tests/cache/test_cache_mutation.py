"""500 damaged files: never an exception, never a wrong result, never a deleted file."""

from __future__ import annotations

import random
import warnings

import pytest

from cloudposterior.cache.seal import _FOOTER
from cloudposterior.errors import CacheWarning

pytestmark = pytest.mark.once

OTHER_TOKEN = "f" * 32


def flip_bytes(raw: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 1, 2, 50])):
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def flip_in_head(raw: bytearray, rng: random.Random) -> None:
    raw[rng.randrange(2048)] ^= 1 << rng.randrange(8)


def flip_in_footer(raw: bytearray, rng: random.Random) -> None:
    raw[-1 - rng.randrange(_FOOTER.size)] ^= 1 << rng.randrange(8)


def flip_in_description(raw: bytearray, rng: random.Random) -> None:
    raw[-_FOOTER.size - 1 - rng.randrange(2000)] ^= 1 << rng.randrange(8)


def truncate(raw: bytearray, rng: random.Random) -> None:
    del raw[rng.randrange(len(raw)) :]


def truncate_front(raw: bytearray, rng: random.Random) -> None:
    del raw[: rng.randrange(1, len(raw))]


def extend(raw: bytearray, rng: random.Random) -> None:
    raw += rng.choice([b"\0", b"x" * 500, bytes(_FOOTER.size), bytes(raw)])


def insert(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(raw))
    raw[at:at] = rng.randbytes(rng.choice([1, 512]))


def zero_block(raw: bytearray, rng: random.Random) -> None:
    at = rng.randrange(0, len(raw) - 4096)
    raw[at : at + 4096] = bytes(4096)


def swap_blocks(raw: bytearray, rng: random.Random) -> None:
    one, other = rng.randrange(0, 8192), rng.randrange(9000, len(raw) - 512)
    raw[one : one + 512], raw[other : other + 512] = (
        raw[other : other + 512],
        raw[one : one + 512],
    )


def huge_length(raw: bytearray, rng: random.Random) -> None:
    at = len(raw) - _FOOTER.size + rng.choice([24, 32])
    raw[at : at + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f"])


def drop_footer(raw: bytearray, rng: random.Random) -> None:
    del raw[-_FOOTER.size :]


def empty(raw: bytearray, rng: random.Random) -> None:
    raw.clear()


def text(raw: bytearray, rng: random.Random) -> None:
    raw[:] = b"Dear diary,\n" * rng.randrange(1, 500)


def paste_token(raw: bytearray, rng: random.Random) -> None:
    """The token, wherever it stands in the file, becomes the one asked for."""
    token = bytes(raw[raw.index(b'"token": "') + 10 :][:32])
    raw[:] = raw.replace(token, OTHER_TOKEN.encode())


MUTATIONS = [
    flip_bytes, flip_in_head, flip_in_footer, flip_in_description, truncate, truncate_front, extend,
    insert, zero_block, swap_blocks, huge_length, drop_footer, empty, text, paste_token,
]  # fmt: skip
BATCHES = 10
PER_BATCH = 50


@pytest.mark.parametrize("batch", range(BATCHES))
def test_damaged_file_is_a_miss_and_kept(batch, cache, make_tree, make_record, assert_same):
    rng = random.Random(batch)
    tree = make_tree()
    record = make_record()
    path = cache.put(tree, record).path
    whole = path.read_bytes()
    other = path.with_name(f"draws1000_chains4-{OTHER_TOKEN[:8]}.nc")
    for number in range(PER_BATCH):
        mutate = MUTATIONS[(batch * PER_BATCH + number) % len(MUTATIONS)]
        raw = bytearray(whole)
        mutate(raw, rng)
        is_pasted = mutate is paste_token
        target, token = (other, OTHER_TOKEN) if is_pasted else (path, record.token)
        target.write_bytes(raw)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = cache.get(token, model=record.model, label=record.label)
        if bytes(raw) == whole:  # two flips of one bit, a block of zeros zeroed
            assert_same(found[0], tree)
            continue
        assert found is None, mutate.__name__
        assert [warning.category for warning in caught] == [CacheWarning], mutate.__name__
        assert str(target) in str(caught[0].message)
        (aside,) = path.parent.glob("*.aside-*")
        assert aside.read_bytes() == bytes(raw)
        aside.unlink()
        assert not target.exists()
    assert BATCHES * PER_BATCH >= 500
