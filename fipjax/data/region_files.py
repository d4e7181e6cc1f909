"""Regions of pictures from a folder, one of (the first that is there is read):

    regions.npz         of all pictures: 'names' str [P], 'features' [P, R, F], 'boxes' [P, R, 4] shares of the picture,
                        'count' int [P]; optional 'class_probs' [P, R, C], distributions over the detector's classes
    features/NAME.npz   of one picture: 'features' [N, F], 'boxes' [N, 4] absolute, 'width', 'height' of the picture;
                        optional 'class_probs' [N, C]
    images/NAME         pictures (png, jpg), cut into a grid of cells after the whole picture, see fipjax.data.regions

Boxes are x1, y1, x2, y2. NAME is what "image" says in the table of texts; of a NAME with the ending of a picture the
features lie in a file without it. ViLBERT reads a picture out at its first region: that should be the whole picture.
Nothing that is read gets executed.
"""
from __future__ import annotations

import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from fipjax import bars
from fipjax.data.vl import Regions
from fipjax.errors import UserError

FILE, FEATURES, IMAGES = 'regions.npz', 'features', 'images'
ENDINGS = ('.png', '.jpg', '.jpeg')
MOST_PIXELS = 50_000_000
SIDE = 128  # pictures become this many rows and columns before they are cut
WIDTHS = {2048: 'Faster R-CNN ResNeXt-152 fc6 as in MMF', 1024: "detectron2's, or NLVR2's of VisualBERT",
          512: "VCR's of VisualBERT", 192: 'crops, as regions.features=crops', 64: 'frozen, as regions.features=frozen'}
_SLACK = 1e-3  # of the picture's side: detectors round
_UNREADABLE = (ValueError, OSError, EOFError, AttributeError, TypeError, RuntimeError, KeyError, zipfile.BadZipFile,
               zlib.error)


def read(folder: pathlib.Path, names: Sequence[str], settings, detector: str = '',
         progress: bool = False) -> tuple[Regions, dict[str, int]]:
    """The regions of pictures, and the row of each name.

    Args:
      folder: see this module's docstring.
      names: of pictures, all different.
      settings: config group `regions`: features, grid, maximum (of regions a picture).
      detector: what made the features, for people; '' says only how wide they are.
      progress: show a progress bar.

    Raises:
      UserError: no regions of a picture, an array that is missing, of another shape or not finite, a box outside its
        picture, class_probs that do not sum to 1, too many regions, a picture that cannot be read or is too large.
    """
    if (folder / FILE).is_file():
        return _table(folder / FILE, names, settings, detector)
    with bars.bar(names, desc=f'data: {folder.name}', unit='picture', show=progress) as shown:
        if (folder / FEATURES).is_dir():
            found = stack([(str(_features_path(folder, n)), _npz(_features_path(folder, n))) for n in shown], settings,
                          detector)
        elif (folder / IMAGES).is_dir():
            found = cut((_picture(folder / IMAGES / n) for n in shown), settings)
        else:
            raise UserError(f'{folder}: none of {FILE}, {FEATURES}/ and {IMAGES}/ is there, so its texts have no '
                            'pictures')
    return found, {name: row for row, name in enumerate(names)}


def cut(pictures: Iterable[np.ndarray], settings) -> Regions:
    """Whole pictures and the cells of a grid as regions.

    Args:
      pictures: uint8 [H, W, 3] each, all of one shape.
      settings: as in `read`.
    """
    from fipjax.data import regions
    boxes = np.asarray(regions.grid_boxes(*settings.grid), np.float32)
    features, chunk = [], []

    def flush():
        many, count = np.broadcast_to(boxes, (len(chunk), *boxes.shape)), np.full(len(chunk), len(boxes), np.int32)
        features.append(regions.regions_of_pictures(np.stack(chunk), many, count, settings.features))
        chunk.clear()

    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == 256:
            flush()
    if chunk:
        flush()
    features = np.concatenate(features)
    return Regions(features, np.tile(boxes, (len(features), 1, 1)),
                   np.full(len(features), len(boxes), np.int32), None, settings.features)


def stack(tables: Sequence[tuple[str, dict]], settings, detector: str = '') -> Regions:
    """Regions of pictures that have different numbers of them.

    Args:
      tables: (what it is called in messages, arrays of features/NAME.npz) of each picture.
      settings, detector: as in `read`.

    Raises:
      UserError: as `read`.
    """
    parts = [one_picture(where, table) for where, table in tables]
    for (where, _), part in zip(tables, parts, strict=True):
        alike(where, part, tables[0][0], parts[0], settings)
    return pad(parts, detector)


def alike(where: str, part: tuple, first: str, other: tuple, settings) -> None:
    """Raises UserError where a picture and the first one are not of one detector, or it has too many regions.

    Args:
      where, part: the picture's name for messages, and what `one_picture` says of it.
      first, other: the same of the first picture.
      settings: as in `read`.
    """
    (f, _, p), (g, _, q) = part, other
    if f.shape[1] != g.shape[1]:
        raise UserError(f'{where}: features are {wide(f.shape[1])}, those of {first} are {wide(g.shape[1])}; one '
                        'detector must make all of them')
    if (p is None) != (q is None) or (p is not None and p.shape[1] != q.shape[1]):
        raise UserError(f'{where}: class_probs of {"no" if p is None else p.shape[1]} classes, {first} has '
                        f'{"none" if q is None else q.shape[1]}; all files need the same')
    _most(len(f), settings, where)


def pad(parts: Sequence[tuple], detector: str = '') -> Regions:
    """Regions out of what `one_picture` says of each picture."""
    count = np.array([len(f) for f, _, _ in parts], np.int32)
    padded = lambda k: np.stack([np.pad(x[k], ((0, count.max() - len(x[k])), (0, 0))) for x in parts])  # noqa: E731
    return Regions(padded(0), padded(1), count, None if parts[0][2] is None else padded(2),
                   detector or f'features {parts[0][0].shape[1]} wide')


def square(picture: np.ndarray, where: str) -> np.ndarray:
    """A picture, uint8 [H, W, 3] or [H, W, 1], as uint8 [SIDE, SIDE, 3]."""
    from PIL import Image
    x = np.asarray(picture)
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] not in (1, 3) or not x.size:
        raise UserError(f'{where}: the picture is {x.dtype} {list(x.shape)}; expected uint8 [H, W, 3]')
    whole = Image.fromarray(np.broadcast_to(x, (*x.shape[:2], 3)).copy())
    return np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def check(regions: Regions, where: str, names: Sequence[str] | None = None) -> Regions:
    """The regions with boxes inside their pictures and zeros after the last region.

    Args:
      regions: as they lie in a file; what lies beyond `count` may be anything.
      where: named in messages.
      names: of the pictures, for messages; None where `where` says which it is.

    Raises:
      UserError: as `read`, and shapes that do not fit together.
    """
    r, p = regions, len(regions.features)
    shapes = {'features': (3, r.features), 'boxes': (3, r.boxes), 'count': (1, r.count)}
    if r.classes is not None:
        shapes['class_probs'] = (3, r.classes)
    for name, (axes, x) in shapes.items():
        fits = x.ndim == axes and len(x) == p and (axes < 3 or x.shape[1] == r.features.shape[1]) and x.size
        if not fits or x.dtype.kind not in ('iu' if name == 'count' else 'fiu') or (name == 'boxes'
                                                                                    and x.shape[2] != 4):
            raise UserError(f'{where}: {name!r} is {x.dtype} {list(x.shape)}; expected '
                            + {'count': 'integers [P]', 'features': 'numbers [P, R, F]', 'boxes': 'numbers [P, R, 4]',
                               'class_probs': 'numbers [P, R, C]'}[name] + f', features are {list(r.features.shape)}')
    which = lambda bad: where if names is None else (  # noqa: E731
        f'{where}: picture {str(names[int(np.argmax(bad))])!r}')
    bad = (r.count < 1) | (r.count > r.features.shape[1])
    if bad.any():
        raise UserError(f'{which(bad)} has count {r.count[np.argmax(bad)]}; allowed: 1..{r.features.shape[1]}')
    valid = (np.arange(r.features.shape[1]) < r.count[:, None])[..., None]
    with np.errstate(over='ignore'):
        clean = {k: np.where(valid, x, 0).astype(np.float32) for k, (n, x) in shapes.items() if n == 3}
    for name, x in clean.items():
        bad = ~np.isfinite(x).all((1, 2))
        if bad.any():
            raise UserError(f'{which(bad)}: NaN or infinity in {name!r}')
    b = clean['boxes']
    inside = (b[..., :2] < b[..., 2:]).all(-1) & (b >= -_SLACK).all(-1) & (b <= 1 + _SLACK).all(-1)
    bad = ~(inside | ~valid[..., 0])
    if bad.any():
        row, region = np.argwhere(bad)[0]
        box = b[row, region].astype(float).round(4).tolist()
        raise UserError(f'{which(bad.any(1))}: box {region} is {box} as shares of the picture; needed: x1 < x2 and '
                        'y1 < y2, all in 0..1')
    if r.classes is not None:
        c = clean['class_probs']
        bad = (((c < 0).any(-1) | (np.abs(c.sum(-1, dtype=np.float64) - 1) > 1e-3)) & valid[..., 0]).any(1)
        if bad.any():
            sums = c[np.argmax(bad)].sum(-1)[:r.count[np.argmax(bad)]]
            raise UserError(f"{which(bad)}: 'class_probs' must be at least 0 and sum to 1 over the classes; found sums "
                            f'{sums.min():.4g} to {sums.max():.4g}')
    return Regions(clean['features'], np.clip(b, 0, 1), r.count.astype(np.int32), clean.get('class_probs'), r.detector)


def wide(width: int) -> str:
    """A width of features with what usually has it."""
    return f'{width} wide ({WIDTHS.get(width, "no detector that we know; " + _known())})'


def _known():
    return '; '.join(f'{k}: {v}' for k, v in WIDTHS.items())


def _most(count, settings, where):
    if count > settings.maximum:
        raise UserError(f'{where}: {count} regions; regions.maximum is {settings.maximum}. Raise it, or keep only the '
                        'surest')


def _npz(path):
    if not path.is_file():
        raise UserError(f'{path}: no such file; every picture that a text names needs its regions')
    try:
        with np.load(path, allow_pickle=False) as f:
            return {k: f[k] for k in f.files}
    except _UNREADABLE as e:
        raise UserError(f'{path}: not an .npz file of plain arrays: {(str(e) or type(e).__name__).splitlines()[0]}'
                        ) from e


def _need(table, keys, optional, where):
    missing = [k for k in keys if k not in table]
    unknown = sorted(set(table) - {*keys, *optional})
    if missing or unknown:
        raise UserError(f'{where}: ' + (f'no array {missing[0]!r}' if missing else f'unknown array {unknown[0]!r}')
                        + f'; found {sorted(table)}, needed: {", ".join(keys)}; optional: {", ".join(optional)}')


def _table(path, names, settings, detector):
    table = _npz(path)
    _need(table, ('names', 'features', 'boxes', 'count'), ('class_probs', 'detector'), path)
    known = table['names']
    if known.ndim != 1 or known.dtype.kind != 'U' or len(known) != len(table['features']):
        raise UserError(f"{path}: 'names' is {known.dtype} {list(known.shape)}; expected one text for each of the "
                        f'{len(table["features"])} pictures')
    rows = {str(n): i for i, n in enumerate(known)}
    if len(rows) < len(known):
        twice = next(n for i, n in enumerate(known) if rows[str(n)] != i)
        raise UserError(f"{path}: the name {str(twice)!r} occurs twice in 'names'")
    lost = [n for n in names if n not in rows]
    if lost:
        raise UserError(f'{path}: no picture {lost[0]!r} ({len(lost)} of {len(names)} are missing); names are e.g. '
                        f'{", ".join(map(repr, list(rows)[:3]))}')
    made_by = detector or str(table.get('detector', ''))
    found = check(Regions(table['features'], table['boxes'], table['count'], table.get('class_probs'), made_by), path,
                  known)
    most = int(np.argmax(found.count))
    _most(found.count[most], settings, f'{path}: picture {str(known[most])!r}')
    return found._replace(detector=made_by or f'features {found.features.shape[2]} wide'), rows


def one_picture(where, table):
    """Features, boxes as shares and class distributions or None of one picture.

    Args:
      where: named in messages.
      table: arrays of features/NAME.npz.

    Raises:
      UserError: as `read`.
    """
    _need(table, (FEATURES, 'boxes', 'width', 'height'), ('class_probs',), where)
    size = [np.asarray(table[k]) for k in ('width', 'height')]
    if any(s.size != 1 or s.dtype.kind not in 'fiu' or not np.isfinite(s).all() or s.item() <= 0 for s in size):
        raise UserError(f"{where}: 'width' and 'height' must be numbers above 0; found {[s.tolist() for s in size]}")
    x = {k: np.asarray(table[k]) for k in (FEATURES, 'boxes', 'class_probs') if k in table}
    for name, array in x.items():
        if array.dtype.kind not in 'fiu' or array.ndim != 2 or len(array) != len(x[FEATURES]):
            raise UserError(f'{where}: {name!r} is {array.dtype} {list(array.shape)}; expected numbers [N, '
                            f'{dict(features="F", boxes="4", class_probs="C")[name]}], one row a region')
    if x['boxes'].shape[1] != 4:
        raise UserError(f"{where}: 'boxes' is {list(x['boxes'].shape)}; expected [N, 4]")
    if not len(x[FEATURES]):
        raise UserError(f'{where}: no regions')
    scale = np.array([s.item() for s in size] * 2, np.float64)
    probs = x['class_probs'][None] if 'class_probs' in x else None
    found = check(Regions(x[FEATURES][None], (x['boxes'] / scale)[None], np.array([len(x[FEATURES])]), probs, ''),
                  where)
    return found.features[0], found.boxes[0], None if probs is None else found.classes[0]


def _features_path(folder, name):
    stem = name[:-len(pathlib.PurePosixPath(name).suffix)] if name.lower().endswith(ENDINGS) else name
    return folder / FEATURES / f'{stem}.npz'


def _picture(path):
    """A picture file as uint8 [SIDE, SIDE, 3], turned as its camera says."""
    from PIL import Image, ImageOps
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f'{path}: ends in {path.suffix!r}; pictures are {", ".join(ENDINGS)}')
    if not path.is_file():
        raise UserError(f'{path}: no such file; every picture that a text names must be there')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(path, formats=('PNG', 'JPEG')) as picture:
                width, height = picture.size
                if width * height > MOST_PIXELS:
                    raise UserError(f'{path}: {width} x {height} pixels; allowed: {MOST_PIXELS} in all')
                return np.asarray(ImageOps.exif_transpose(picture).convert('RGB').resize((SIDE, SIDE),
                                                                                         Image.Resampling.BILINEAR))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as e:
        raise UserError(f'{path}: too large a picture; allowed: {MOST_PIXELS} pixels in all') from e
    except (OSError, SyntaxError, ValueError, TypeError, EOFError) as e:
        raise UserError(f'{path}: not a picture that can be read: {e}') from e
