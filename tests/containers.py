"""Comparison of nested containers that hold arrays."""
import numpy as np


def same(got, want, holds=lambda array: True):
    """Asserts equal types, orders of keys and values; of arrays also that they can be written to and that `holds`."""
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        for k in want:
            same(got[k], want[k], holds)
    elif isinstance(want, (list, tuple)):
        assert len(got) == len(want)
        for a, b in zip(got, want):
            same(a, b, holds)
    elif isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape and got.flags.writeable
        assert holds(got)
        np.testing.assert_array_equal(got, want)
    else:
        assert got == want
