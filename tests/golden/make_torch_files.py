"""Writes torch_zip.bin and torch_legacy.bin: small tensors of many kinds, as torch.save writes them in both formats.

Run from the repository (the tests need none of it) in an environment with torch 2.14:

    python tests/golden/make_torch_files.py

What is in them, test_torch_file.py spells out in NumPy. The legacy format names storages by their addresses in memory;
here they are numbered, so that the files come out the same each time.
"""
from __future__ import annotations

import collections
import pathlib

import torch

HERE = pathlib.Path(__file__).parent


def content():
    both = torch.arange(10, dtype=torch.float32)
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.5, -0.25]]))
        layer.bias.fill_(2)
    return collections.OrderedDict(
        float32=torch.tensor([[1.5, -2], [0.1, 3e38]]), bfloat16=torch.tensor([1.5, -0.1, 3e38], dtype=torch.bfloat16),
        float16=torch.tensor([1.5, -0.1, 65504], dtype=torch.float16),
        float64=torch.tensor([0.1, -1e300], dtype=torch.float64),
        int64=torch.tensor([1, -2 ** 62]), int32=torch.tensor([1, -2 ** 31], dtype=torch.int32),
        int16=torch.tensor([1, -2 ** 15], dtype=torch.int16), int8=torch.tensor([1, -128], dtype=torch.int8),
        uint8=torch.tensor([1, 255], dtype=torch.uint8), bool=torch.tensor([True, False, True]),
        transposed=torch.arange(6).reshape(2, 3).T, first=both[:4], last=both[4:].reshape(2, 3)[:, 1:],
        parameter=torch.nn.Parameter(torch.tensor([0.25, -4])), scalar=torch.tensor(2.5), empty=torch.zeros(0, 3),
        layer=layer.state_dict(), rest=[torch.Size([2, 3]), (None, 'é', b'\xff', 1.5), {1, 2}, True, 2 ** 70])


def main():
    at, numbers = torch.UntypedStorage._cdata, {}
    torch.UntypedStorage._cdata = property(lambda x: 100 + numbers.setdefault(at.__get__(x), len(numbers)))
    whole = content()
    for name, new in ('torch_zip', True), ('torch_legacy', False):
        torch.save(whole, HERE / f'{name}.bin', _use_new_zipfile_serialization=new)


if __name__ == '__main__':
    main()
