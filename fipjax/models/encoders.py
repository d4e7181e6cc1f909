"""The encoders of the transfer wing behind one interface: what MoNA and its baselines know of a transformer."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fipjax.errors import UserError
from fipjax.models import bert, stack, swin, vit


class Encoder(NamedTuple):
    """Pure functions of the parameters, and what an embedder must give them.

    Attributes:
      init: key -> params.
      apply: (params, tokens [B, N, token_width], mask bool [B, N] or None) -> [B, N', width]. Tokens that are not
        valid get no attention.
      token_width: width of the tokens that go in.
      width: width of the tokens that come out.
      grid: rows and columns that the tokens must form (Swin, which takes no mask); None: any number of tokens,
        N' = N and the mask goes on holding.
      image_size, patch: side of the square image and of its patches, for an embedder of pictures.
      positions: whether an embedder of pictures adds learned positions (ViT, BERT) or not (Swin has relative ones).
      output_grid: rows and columns that the tokens of a picture form when they come out.
    """

    init: Callable
    apply: Callable
    token_width: int
    width: int
    grid: tuple[int, int] | None
    image_size: int
    patch: int
    positions: bool
    output_grid: tuple[int, int]


def _plain(width, depth, heads, image_size=224, patch=16):
    return {'width': width, 'depth': depth, 'heads': heads, 'image_size': image_size, 'patch': patch}


def _swin(embed, depths, heads, window=7, image_size=224, patch=4):
    return {'embed': embed, 'depths': depths, 'heads': heads, 'window': window, 'image_size': image_size,
            'patch': patch}


VARIANTS = {
    'vit': {'cpu': _plain(64, 4, 4, 32, 4), 'tiny': _plain(192, 12, 3), 'small': _plain(384, 12, 6),
            'base': _plain(768, 12, 12)},
    'bert': {'cpu': _plain(64, 4, 4, 32, 4), 'mini': _plain(384, 6, 12), 'base': _plain(768, 12, 12)},
    'swin': {'cpu': _swin(24, (2, 2), (2, 4), 4, 32, 2),
             'tiny': _swin(96, (2, 2, 6, 2), (3, 6, 12, 24)),
             'small': _swin(96, (2, 2, 18, 2), (3, 6, 12, 24)),
             'base': _swin(128, (2, 2, 18, 2), (4, 8, 16, 32))},
}
FAMILIES = tuple(VARIANTS)
SIZES = ('width', 'depth', 'heads')


def build(settings) -> Encoder:
    """The encoder that a config group asks for.

    Args:
      settings: `family` and `variant`, see VARIANTS; `width`, `depth`, `heads`, `image_size`, `patch`, where 0 is the
        variant's (the first three must be 0 for 'swin'); `layers` 'scan' or 'unroll' and `remat`, see
        `fipjax.models.stack.run`.

    Raises:
      UserError: an unknown family, variant or form of the layers; a negative size, or one that does not divide.
    """
    _one_of('family', settings.family, FAMILIES)
    _one_of('variant', settings.variant, VARIANTS[settings.family])
    _one_of('layers', settings.layers, stack.LAYERS)
    sizes, own = dict(VARIANTS[settings.family][settings.variant]), settings.family == 'swin'
    for key in (*SIZES, 'image_size', 'patch'):
        value = settings[key]
        if value < 0:
            raise UserError(f'encoder.{key} is {value}; allowed: 0 (as the variant has it) and above')
        if value and own and key in SIZES:
            raise UserError(f'encoder.{key} is {value}, but the sizes of Swin are those of encoder.variant '
                            f'({", ".join(VARIANTS["swin"])}); it must be 0')
        sizes[key] = value or sizes.get(key)
    if sizes['image_size'] % sizes['patch']:
        raise UserError(f'encoder.image_size is {sizes["image_size"]}; it must be divisible by encoder.patch, '
                        f'{sizes["patch"]}')
    side = sizes['image_size'] // sizes['patch']
    how = {'layers': settings.layers, 'remat': settings.remat}
    if own:
        swin.check(side, len(sizes['depths']), sizes['window'], sizes['patch'])
        init, apply = swin.build(side, sizes['embed'], sizes['depths'], sizes['heads'], sizes['window'], **how)
        halvings = len(sizes['depths']) - 1
        return Encoder(init, apply, sizes['embed'], sizes['embed'] << halvings, (side, side), sizes['image_size'],
                       sizes['patch'], False, (side >> halvings, side >> halvings))
    if sizes['width'] % sizes['heads']:
        raise UserError(f'encoder.width is {sizes["width"]}; it must be divisible by encoder.heads, {sizes["heads"]}')
    if sizes['width'] % 4:
        raise UserError(f'encoder.width is {sizes["width"]}; it must be divisible by 4 (2-D positions)')
    make = {'vit': vit, 'bert': bert}[settings.family].build
    init, apply = make(sizes['width'], sizes['depth'], sizes['heads'], **how)
    return Encoder(init, apply, sizes['width'], sizes['width'], None, sizes['image_size'], sizes['patch'], True,
                   (side, side))


def _one_of(key, value, allowed):
    if value not in allowed:
        raise UserError(f'encoder.{key} is {value!r}; allowed: {", ".join(allowed)}')
