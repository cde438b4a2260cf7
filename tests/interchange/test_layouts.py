"""Layout patterns: any block of a parameter from the file's tensor, and the tensor again."""

import numpy as np
import pytest

from jaxgen.interchange.layouts import FileLayout

CASES = [
    ("d f", "f d", (4, 6), 1),
    ("d h w", "(h w) d", (5, 4, 3), 1),
    ("h w d", "d (h w)", (4, 3, 5), 1),
    ("d h w", "(h part w) d", (5, 4, 3), 3),
    ("d h w", "d (part h w)", (5, 4, 3), 3),
    ("h w", "(part h w)", (4, 3), 3),
    ("h w", "(h part w)", (4, 3), 3),
    ("v", "v", (7,), 1),
    # Phi-3: queries and fewer keys and values, one after another; Falcon: group by group.
    ("d h w", "(part h w) d", (5, (6, 2, 2), 3), 3),
    ("d (n g) w", "(n part g w) d", (5, (6, 2, 2), 3), 3),
    ("(n g) w", "(n part g w)", ((6, 2, 2), 3), 3),
    ("e d f", "e d (f part)", (3, 5, 4), 2),
    ("e d f", "e (part f) d", (3, 5, 4), 2),
]


@pytest.mark.parametrize(("axes", "file", "shape", "parts"), CASES)
def test_any_block_is_read_from_what_was_written(axes, file, shape, parts):
    random = np.random.default_rng(0)
    layout = FileLayout.parse(axes, file)
    shapes = [tuple(n if isinstance(n, int) else n[part] for n in shape) for part in range(parts)]
    blocks = [random.normal(size=one) for one in shapes]
    tensor = layout.write(blocks)
    assert tensor.shape == layout.file_shape(shapes)
    for _ in range(200):
        part = int(random.integers(parts))
        shape = shapes[part]
        firsts = [int(random.integers(size)) for size in shape]
        ranges = [
            (first, int(random.integers(first + 1, size + 1)))
            for first, size in zip(firsts, shape, strict=True)
        ]
        found = layout.read(tensor.__getitem__, shapes, ranges, part)
        assert np.array_equal(found, blocks[part][tuple(slice(*r) for r in ranges)])


def test_bloom_keeps_heads_together():
    """Rows of the file: query, key and value of the first head, then of the second."""
    layout = FileLayout.parse("h w", "(h part w)")
    parts = [np.array([[f"{part}{head}{i}" for i in range(2)] for head in range(2)])
             for part in "qkv"]  # fmt: skip
    expected = ["q00", "q01", "k00", "k01", "v00", "v01", "q10", "q11", "k10", "k11", "v10", "v11"]
    assert layout.write(parts).tolist() == expected


def test_patterns_must_have_the_same_axes():
    with pytest.raises(AssertionError, match="differ in their axes"):
        FileLayout.parse("d h w", "(h w)")
