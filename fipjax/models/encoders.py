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


def _swin(width, depths, heads, window=7, image_size=224, patch=4):
    return {'width': width, 'depths': depths, 'stage_heads': heads, 'window': window, 'image_size': image_size,
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
CHECKPOINT = 'checkpoint'  # the variant whose sizes are all in the settings, as fipjax.models.published puts them there
FAMILIES = tuple(VARIANTS)
MODULES = {'vit': vit, 'bert': bert, 'swin': swin}
GELUS = ('exact', 'tanh')
PLAIN, STAGES = ('depth', 'heads'), ('depths', 'stage_heads', 'window')
SIZES = ('width', *PLAIN, *STAGES, 'image_size', 'patch', 'mlp_ratio', 'epsilon', 'gelu')


def build(settings, compute: str = 'float32') -> Encoder:
    """The encoder that a config group asks for.

    Args:
      settings: `family` and `variant`, see VARIANTS, and SIZES, where 0, () or '' is the variant's: `width` (Swin: of
        the first stage), `depth` and `heads` (not of Swin), `depths`, `stage_heads` and `window` (of Swin alone),
        `image_size`, `patch`, `mlp_ratio`, `epsilon` of the LayerNorms, `gelu`; `layers` 'scan' or 'unroll' and
        `remat`, see `fipjax.models.stack.run`.
      compute: what `apply` computes in, see `fipjax.models.stack.computing`.

    Raises:
      UserError: an unknown family, variant or form of the layers; sizes of another family, negative ones, or such that
        do not divide.
    """
    family = settings.family
    _one_of('family', family, FAMILIES)
    _one_of('variant', settings.variant, (*VARIANTS[family], CHECKPOINT))
    _one_of('layers', settings.layers, stack.LAYERS)
    sizes = sizes_of(settings)
    if sizes['image_size'] % sizes['patch']:
        raise UserError(f'encoder.image_size is {sizes["image_size"]}; it must be divisible by encoder.patch, '
                        f'{sizes["patch"]}')
    side = sizes['image_size'] // sizes['patch']
    how = {'layers': settings.layers, 'remat': settings.remat, 'mlp_ratio': sizes['mlp_ratio'],
           'epsilon': sizes['epsilon'], 'tanh': sizes['gelu'] == 'tanh'}
    width = sizes['width']
    if family == 'swin':
        depths, heads = tuple(sizes['depths']), tuple(sizes['stage_heads'])
        _stages(depths, heads, width)
        swin.check(side, len(depths), sizes['window'], sizes['patch'])
        init, apply = swin.build(side, width, depths, heads, sizes['window'], **how)
        halvings = len(depths) - 1
        return Encoder(init, stack.computing(compute, apply), width, width << halvings, (side, side),
                       sizes['image_size'], sizes['patch'], False, (side >> halvings, side >> halvings))
    if width % sizes['heads']:
        raise UserError(f'encoder.width is {width}; it must be divisible by encoder.heads, {sizes["heads"]}')
    if width % 4:
        raise UserError(f'encoder.width is {width}; it must be divisible by 4 (2-D positions)')
    init, apply = MODULES[family].build(width, sizes['depth'], sizes['heads'], **how)
    return Encoder(init, stack.computing(compute, apply), width, width, None, sizes['image_size'], sizes['patch'], True,
                   (side, side))


def sizes_of(settings) -> dict:
    """SIZES of the family, those that are given before those of the variant; arguments and errors as `build`."""
    family = settings.family
    known = {**VARIANTS[family].get(settings.variant, {}), 'mlp_ratio': 4, 'epsilon': MODULES[family].EPSILON,
             'gelu': 'exact'}
    for key in SIZES:
        value = settings[key]
        if key == 'gelu':
            _one_of(key, value, ('', *GELUS))
        elif any(n < 0 for n in (value if isinstance(value, tuple | list) else (value,))):
            raise UserError(f'encoder.{key} is {value}; allowed: 0 (as the variant has it) and above')
        elif value and key in (PLAIN if family == 'swin' else STAGES):
            raise UserError(f'encoder.{key} is {value}, but encoder.family is {family!r}; its sizes are encoder.width, '
                            + ', '.join(f'encoder.{k}' for k in (STAGES if family == 'swin' else PLAIN)))
        known[key] = value or known.get(key)
    return known


def _stages(depths, heads, width):
    """Raises UserError unless Swin can have such stages."""
    if not depths or any(d < 2 or d % 2 for d in depths):
        raise UserError(f'encoder.depths is {depths}; allowed: even numbers, layers of each stage')
    if len(heads) != len(depths) or any(h < 1 or (width << i) % h for i, h in enumerate(heads)):
        raise UserError(f'encoder.stage_heads is {heads}; allowed: {len(depths)} numbers that divide the widths '
                        f'{", ".join(str(width << i) for i in range(len(depths)))} of the stages')


def _one_of(key, value, allowed):
    if value not in allowed:
        raise UserError(f'encoder.{key} is {value!r}; allowed: {", ".join(allowed)}')
