"""What a modality is (kind, shape, patch size) and how an array of it becomes tokens and back."""
from __future__ import annotations

import dataclasses
import math

from fipjax.errors import UserError

RANKS = {'image': 3, 'sequence': 2, 'tokens': 1}  # axes of one example
KINDS = tuple(RANKS)
PATCH_EPS = 1e-6  # added to the variance of a patch before the square root


@dataclasses.dataclass(frozen=True)
class Modality:
    """One modality of the data.

    Attributes:
      name: used as key everywhere (batches, metrics, config).
      kind: 'image' (shape (H, W, C)), 'sequence' (shape (L, C)) or 'tokens' (shape (L,), integer ids).
      shape: of one example, without the batch axis.
      patch: side of a square patch in pixels, length of a chunk in samples; 1 for 'tokens'.
      vocab: number of ids of kind 'tokens', else 0.

    Raises:
      UserError: unknown kind, wrong rank, or a patch size that does not divide the size.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    patch: int = 1
    vocab: int = 0

    def __post_init__(self):
        where = f'data.modalities.{self.name}'
        if self.kind not in KINDS:
            raise UserError(f'{where}.kind is {self.kind!r}; allowed: {", ".join(KINDS)}')
        form = {'image': '(height, width, channels)', 'sequence': '(length, channels)', 'tokens': '(length,)'}
        if len(self.shape) != RANKS[self.kind] or any(int(n) < 1 for n in self.shape):
            raise UserError(f'{where}.shape is {self.shape}; kind {self.kind!r} needs {form[self.kind]}, all >= 1')
        if self.patch < 1:
            raise UserError(f'{where}.patch is {self.patch}; it must be at least 1')
        divided = {'image': self.shape[:2], 'sequence': self.shape[:1], 'tokens': ()}[self.kind]
        if any(n % self.patch for n in divided):
            raise UserError(f'{where}.patch is {self.patch} and does not divide the size {tuple(divided)}')
        if self.kind == 'tokens' and self.vocab < 2:
            raise UserError(f'{where}.vocab is {self.vocab}; kind "tokens" needs at least 2 ids')

    @property
    def grid(self) -> tuple[int, ...]:
        """Tokens along each axis: (H/p, W/p), (L/p,) or (L,)."""
        if self.kind == 'image':
            return self.shape[0] // self.patch, self.shape[1] // self.patch
        return (self.shape[0] // self.patch,) if self.kind == 'sequence' else (self.shape[0],)

    @property
    def tokens(self) -> int:
        """N, the number of tokens of one example."""
        return math.prod(self.grid)

    @property
    def token_dim(self) -> int:
        """D, the numbers in one token: p*p*C, p*C, or the vocabulary size (logits) for 'tokens'."""
        if self.kind == 'image':
            return self.patch ** 2 * self.shape[2]
        return self.patch * self.shape[1] if self.kind == 'sequence' else self.vocab


def patchify(modality: Modality, x):
    """[B, *shape] -> [B, N, D], row-major patches; 'tokens' stay [B, N] ids. NumPy or JAX arrays."""
    b, p = x.shape[0], modality.patch
    if modality.kind == 'image':
        (h, w), c = modality.grid, modality.shape[2]
        return x.reshape(b, h, p, w, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * w, p * p * c)
    if modality.kind == 'sequence':
        return x.reshape(b, modality.tokens, modality.token_dim)
    return x


def unpatchify(modality: Modality, tokens):
    """[B, N, D] -> [B, *shape], the inverse of `patchify`."""
    b, p = tokens.shape[0], modality.patch
    if modality.kind == 'image':
        (h, w), c = modality.grid, modality.shape[2]
        return tokens.reshape(b, h, w, p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h * p, w * p, c)
    if modality.kind == 'sequence':
        return tokens.reshape(b, *modality.shape)
    return tokens


def normalise_patches(tokens):
    """Each token to mean 0 and variance 1 over its D numbers (MAE, arXiv 2111.06377, section 4.1). [B, N, D]."""
    mean, var = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
    return (tokens - mean) / (var + PATCH_EPS) ** 0.5


def denormalise_patches(predicted, tokens):
    """Undo `normalise_patches` on a prediction, with the statistics of the true tokens. Both [B, N, D]."""
    mean, var = tokens.mean(-1, keepdims=True), tokens.var(-1, keepdims=True)
    return predicted * (var + PATCH_EPS) ** 0.5 + mean
