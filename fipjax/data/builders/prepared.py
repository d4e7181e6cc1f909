"""Benchmarks out of their published files: a task says what it needs and gives rows, `prepare` writes them once.

What is written is a TFDS data set of array_record files, read anywhere by tfds.data_source without TensorFlow. Rows
are streamed: one at a time is in memory. A file that is finished is noted with its hash; after a kill the same call
verifies these and goes on with the next. Until all are there the folder is called incomplete.*, which TFDS does not
see; wrong input leaves nothing behind.

Every module of fipjax.data.builders that has `TASKS`, name -> Task, is known to
`python -m fipjax.data.builders.prepare`.
"""
from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import json
import math
import os
import pathlib
import pkgutil
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fipjax import bars
from fipjax.errors import Busy, UserError

VERSION = '1.0.0'
SHARD = 2 ** 26  # bytes of examples in a file, before compression
FACTS = 'prepared.json'
MONA = ('--config.target.data=tfds --config.target.name={name} --config.target.data_dir={data_dir}')
PIECE, PIECES = 2 ** 16, 16  # bytes; of a large file as many pieces tell it apart, head and tail among them


class File(NamedTuple):
    """A published file or folder: its path below manual_dir, its size in words, where it comes from, its MD5 or ''."""

    name: str
    size: str
    where: str
    md5: str = ''


class Opened(NamedTuple):
    """What a task's files hold.

    Attributes:
      features: name -> (shape, dtype) of one example; dtype `str` is text, with shape (None,) a list of texts. Unknown
        lengths are None.
      splits: name -> (n, rows); rows(start, stop) yields the examples in [start, stop) as {feature: value}, arrays of
        just that shape and dtype.
      classes: names of the classes that 'y' is the number of, () where it is something else.
      notes: words about this copy of the data, kept with it.
      shard: examples in a file; 0 chooses by their size, which must be known then.
    """

    features: dict[str, tuple[tuple, Any]]
    splits: dict[str, tuple[int, Callable[[int, int], Iterator[dict]]]]
    classes: tuple[str, ...] = ()
    notes: str = ''
    shard: int = 0


class Task(NamedTuple):
    """A benchmark task.

    Attributes:
      name: FAMILY/TASK, also of the TFDS data set and its config.
      about: a sentence: what is predicted from what, splits, source.
      files: needed in manual_dir.
      open: manual_dir -> Opened; looks at everything that can be checked without reading all of it; UserError.
      options: of the command line that read the result, with {name} and {data_dir}.
    """

    name: str
    about: str
    files: tuple[File, ...]
    open: Callable[[pathlib.Path], Opened]
    options: str = MONA


@functools.cache
def tasks() -> dict[str, Task]:
    """All tasks by name."""
    from fipjax.data import builders
    modules = [importlib.import_module(f'{builders.__name__}.{m.name}') for m in pkgutil.iter_modules(builders.__path__)
               if m.name not in ('prepare', 'prepared')]
    return {name: task for module in modules for name, task in getattr(module, 'TASKS', {}).items()}


def instructions(task: Task) -> str:
    """What the task is, which files it needs and where they come from."""
    lines = [f'{task.name}: {task.about}', 'Files needed in --manual_dir:']
    for file in task.files:
        lines.append(f'  {file.name}  ({file.size}{f", MD5 {file.md5}" if file.md5 else ""})\n      {file.where}')
    return '\n'.join(lines)


def prepare(task: Task, manual_dir: str | os.PathLike, data_dir: str | os.PathLike,
            progress: bool = True) -> pathlib.Path:
    """Writes a task's splits under data_dir, unless they are there, and returns their folder.

    Args:
      task: what to write.
      manual_dir: folder with its published files.
      data_dir: folder for prepared data sets.
      progress: show progress bars.

    Raises:
      UserError: files are missing or damaged, or something else is prepared under this name; nothing is left in
        data_dir then.
      Busy: another process prepares the same.
    """
    manual_dir, folder = pathlib.Path(manual_dir), pathlib.Path(data_dir, *task.name.split('/'), VERSION)
    missing = [file.name for file in task.files if not (manual_dir / file.name).exists()]
    if missing:
        raise UserError(f'{manual_dir} has no {", ".join(missing)}\n{instructions(task)}')
    with _plain_errors(manual_dir):
        opened = task.open(manual_dir)
    plan = _plan(task, opened, manual_dir)
    if _there(folder, plan):
        return folder
    part = folder.with_name(f'incomplete.{VERSION}')
    first = next(p for p in (part, *part.parents) if p.exists())  # nothing above it is ours to remove
    try:
        part.mkdir(parents=True, exist_ok=True)
        with _locked(part, task.name):
            if not _there(folder, plan):
                published = _published(task, manual_dir, progress)
                _write_all(task, opened, plan, part, progress, manual_dir)
                _finish(task, opened, plan, published, part)
                (part / '.lock').unlink()
                part.rename(folder)
    except Busy:
        raise
    except UserError:
        shutil.rmtree(part, ignore_errors=True)
        for parent in part.parents:
            if parent == first or parent in first.parents:
                break
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()
        raise
    return folder


def use(task: Task, data_dir: str | os.PathLike) -> str:
    """The options that read what is prepared."""
    return task.options.format(name=task.name, data_dir=data_dir)


def remarks(folder: str | os.PathLike) -> list[str]:
    """What there is to say about a prepared folder: notes of the task, files that are not the published ones."""
    facts = json.loads((pathlib.Path(folder) / FACTS).read_text(encoding='utf-8'))
    other = [name for name, same in facts['published'].items() if not same]
    return [line for line in facts['plan']['notes'].splitlines() if line] + [
        f'{name} is not the published file (its MD5 differs): made by other means, or damaged' for name in other]


@contextlib.contextmanager
def _plain_errors(where):
    """What reading a damaged file raises, with the folder's name."""
    import zipfile
    import zlib
    try:
        yield
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        if isinstance(e, OSError) and e.errno:  # a full disk, no permission: nothing wrong with the data
            raise
        raise UserError(f'{where}: {type(e).__name__}: {(str(e) or "-").splitlines()[0]}') from e


def _plan(task, opened, manual_dir):
    """What is going to be written, as JSON; equal plans give equal files."""
    rows = opened.shard
    if not rows:
        size = sum(math.prod(shape) * (np.dtype(kind).itemsize if kind is not str else 64)
                   for shape, kind in opened.features.values())
        rows = max(1, SHARD // max(1, size))
    return {
        'task': task.name, 'files': [_identity(manual_dir / f.name, f.name) for f in task.files],
        'features': {k: [list(shape), 'text' if kind is str else np.dtype(kind).name]
                     for k, (shape, kind) in sorted(opened.features.items())},
        'classes': list(opened.classes), 'notes': opened.notes, 'rows': rows,
        'splits': {split: n for split, (n, _) in opened.splits.items()}}


def _identity(path, name):
    """[name, bytes, hash]: of a folder the names and sizes of its files, of a file at most PIECES pieces."""
    digest = hashlib.sha256()
    if path.is_dir():
        found = sorted(_sizes(path))
        digest.update(json.dumps(found).encode())
        return [name, sum(size for _, size in found), digest.hexdigest()]
    size = path.stat().st_size
    with path.open('rb') as f:
        for start in sorted({*np.linspace(0, max(0, size - PIECE), PIECES).astype(int).tolist()}):
            f.seek(start)
            digest.update(f.read(PIECE))
    return [name, size, digest.hexdigest()]


def _sizes(folder):
    """(path below a folder, bytes) of its files; links are followed, to each folder once."""
    seen = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for path in (pathlib.Path(root, name) for name in files):
            if path.is_file():
                yield str(path.relative_to(folder)), path.stat().st_size


def _there(folder, plan):
    """Whether the folder holds what is planned."""
    if not folder.exists():
        return False
    try:
        found = json.loads((folder / FACTS).read_text(encoding='utf-8'))['plan']
    except (OSError, ValueError, KeyError, TypeError):
        found = {}
    if found != plan:
        key = next((k for k in plan if found.get(k) != plan[k]), 'plan')
        raise UserError(f'{folder} was prepared with other {key}: {_short(found.get(key))} instead of '
                        f'{_short(plan[key])}; choose another --data_dir, or delete the folder to prepare it again')
    return True


def _short(value):
    text = json.dumps(value)
    return text if len(text) < 200 else f'{text[:200]} ...'


@contextlib.contextmanager
def _locked(part, name):
    with (part / '.lock').open('a') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise Busy(f'{part}: another process prepares {name}; wait for it') from e
        yield


def _published(task, manual_dir, progress):
    """File name -> whether it is the published one, of those whose MD5 is known."""
    out = {}
    for file in task.files:
        if file.md5:
            digest, path = hashlib.md5(usedforsecurity=False), manual_dir / file.name
            with path.open('rb') as f, bars.bar(desc=f'MD5: {file.name}', total=path.stat().st_size, unit='B',
                                                unit_scale=True, show=progress) as bar:
                while piece := f.read(2 ** 22):
                    digest.update(piece)
                    bar.update(len(piece))
            out[file.name] = digest.hexdigest() == file.md5
    return out


def _shards(opened, rows):
    """(split, number of the file, number of files, start, stop)."""
    for split, (n, _) in opened.splits.items():
        starts = range(0, n, rows)
        yield from ((split, i, len(starts), start, min(start + rows, n)) for i, start in enumerate(starts))


def _name(task, split, i, count):
    return f'{task.name.split("/")[0]}-{split}.array_record-{i:05d}-of-{count:05d}'


def _features(opened):
    import tensorflow_datasets as tfds
    out = {}
    for name, (shape, kind) in opened.features.items():
        if kind is str:
            out[name] = tfds.features.Sequence(tfds.features.Text()) if shape else tfds.features.Text()
        elif name == 'y' and opened.classes:
            out[name] = tfds.features.ClassLabel(names=list(opened.classes))
        elif shape:
            out[name] = tfds.features.Tensor(shape=tuple(shape), dtype=np.dtype(kind),
                                             encoding=tfds.features.Encoding.BYTES)
        else:
            out[name] = tfds.features.Scalar(np.dtype(kind))
    return tfds.features.FeaturesDict(out)


def _write_all(task, opened, plan, part, progress, manual_dir):
    """Every shard that is not there yet, one record at a time."""
    from array_record.python import array_record_module
    from tensorflow_datasets.core import example_serializer
    try:
        same = json.loads((part / 'plan').read_text(encoding='utf-8')) == plan
    except (OSError, ValueError):
        same = False
    if not same:
        for path in part.iterdir():
            if path.name != '.lock':
                path.unlink()
        (part / 'plan').write_text(json.dumps(plan), encoding='utf-8')
    features = _features(opened)
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    shards = list(_shards(opened, plan['rows']))
    with bars.bar(desc=f'data: {task.name}', total=sum(plan['splits'].values()), unit='example',
                  show=progress) as bar:
        for split, i, count, start, stop in shards:
            path = part / _name(task, split, i, count)
            if _verified(path):
                bar.update(stop - start)
                continue
            unfinished, done, check = path.with_name('unfinished'), 0, _checker(opened, f'{manual_dir}: {split}')
            writer = array_record_module.ArrayRecordWriter(str(unfinished), 'group_size:1')
            try:
                with _plain_errors(f'{manual_dir}: {split} from example {start} on'):
                    for example in opened.splits[split][1](start, stop):
                        check(start + done, example)
                        record = serializer.get_tf_example(features.encode_example(example))
                        # Else the order of the features depends on the process, and equal data give other bytes.
                        writer.write(record.SerializeToString(deterministic=True))
                        done += 1
                        bar.update()
            finally:
                writer.close()
            if done != stop - start:
                raise UserError(f'{manual_dir}: {split} has {start + done} examples; expected {plan["splits"][split]}')
            note = {'bytes': unfinished.stat().st_size, 'sha256': _sha256(unfinished)}
            unfinished.rename(path)
            path.with_name(f'{path.name}.done').write_text(json.dumps(note), encoding='utf-8')


def _checker(opened, where):
    """A function of (number, example) that raises UserError for what must not be stored."""
    def check(number, example):
        for name, (shape, kind) in opened.features.items():
            value = example[name]
            if kind is str:
                continue
            if name == 'y' and opened.classes and not 0 <= value < len(opened.classes):
                raise UserError(f'{where}, example {number}: y is {value}; expected a class, 0..'
                                f'{len(opened.classes) - 1}')
            if np.dtype(kind).kind == 'f' and not np.isfinite(value).all():
                raise UserError(f'{where}, example {number}: {name} has NaN or infinity')
            if isinstance(value, np.ndarray) and (
                    value.dtype != kind or len(shape) != value.ndim
                    or any(a not in (None, b) for a, b in zip(shape, value.shape))):
                raise UserError(f'{where}, example {number}: {name} is {value.dtype} {list(value.shape)}; expected '
                                f'{np.dtype(kind)} {list(shape)}')
    return check


def _sha256(path):
    with path.open('rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def _verified(path):
    """Whether a shard is there and is what was written."""
    try:
        note = json.loads(path.with_name(f'{path.name}.done').read_text(encoding='utf-8'))
        return path.stat().st_size == note['bytes'] and _sha256(path) == note['sha256']
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _finish(task, opened, plan, published, part):
    """TFDS's metadata and our own; what only resuming needs is removed."""
    import tensorflow_datasets as tfds
    template = tfds.core.ShardedFileTemplate(data_dir=part, dataset_name=task.name.split('/')[0],
                                             filetype_suffix='array_record')
    infos = []
    for split in opened.splits:
        mine = [s for s in _shards(opened, plan['rows']) if s[0] == split]
        size = sum((part / _name(task, *s[:3])).stat().st_size for s in mine)
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[stop - start for *_, start, stop in mine],
                                         num_bytes=size, filename_template=template.replace(split=split)))
    tfds.folder_dataset.write_metadata(data_dir=part, features=_features(opened), split_infos=infos, version=VERSION,
                                       filename_template=template, check_data=False, description=task.about,
                                       disable_shuffling=True)
    (part / FACTS).write_text(json.dumps({'plan': plan, 'published': published, 'about': task.about}, indent=1),
                              encoding='utf-8')
    for path in (*part.glob('*.done'), part / 'plan'):
        path.unlink()
