"""Saves the model of a finished run in the format of published checkpoints, so that it runs in PyTorch.

    python -m fipjax.export --workdir=runs/mine --out=mine_pytorch
    python -m fipjax.export --workdir=runs/grid/runs/coco --out=coco_pytorch --task=vqa --fraction=1

Wing 'mona': the encoder as validation chose it, under the names of `transformers`, and in target.safetensors the
target's embedder and predictor. Around Swin it is the whole network, with the predictor of classes as its classifier.
Wing 'vlp': the fine-tuned base with its classifier, VisualBERT's for `transformers`, ViLBERT's for MMF. README.md in
the folder says what each file is, and how the model is run. A folder is complete or not there.
"""
from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fipjax import config as config_lib
from fipjax import export_readme as readme
from fipjax.analysis import runs
from fipjax.errors import UserError
from fipjax.writer import write_json

CONFIG, WEIGHTS, TARGET, README = 'config.json', 'model.safetensors', 'target.safetensors', 'README.md'
OF_OTHERS = ('architectures', 'dtype', 'torch_dtype', 'id2label', 'label2id', 'num_labels')  # of config.json


class Saved(NamedTuple):
    """What becomes a folder.

    Attributes:
      config: config.json.
      state: name -> array.
      target: name -> array of target.safetensors, {} for none.
      pictures: preprocessor_config.json, {} for none.
      readme: README.md.
    """

    config: dict[str, Any]
    state: dict[str, np.ndarray]
    target: dict[str, np.ndarray]
    pictures: dict[str, Any]
    readme: str


def write(workdir: str, out: str, labels: int | None = None, task: str | None = None,
          fraction: float | None = None) -> str:
    """Writes the folder `out` from the finished run in `workdir`.

    Args:
      workdir: of a run of wing 'mona' or 'vlp'.
      out: a folder that is not there yet, or is empty.
      labels: of wing 'mona', which of transfer.labels_per_class; None where there is one.
      task, fraction: of wing 'vlp', which of finetune.tasks and finetune.fractions; None where there is one.

    Returns:
      What was written, for people.

    Raises:
      UserError: whatever is missing, does not fit or is there already.
    """
    for flag, value in (('workdir', workdir), ('out', out)):
        if not value:
            raise UserError(f'--{flag} is missing; usage: python -m fipjax.export --workdir=RUN --out=DIR')
    folder = pathlib.Path(out).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f'--out={out}: it is there already and not an empty folder; choose another')
    run = runs.load_run(workdir)
    wing = run.config.get('wing')
    if wing not in ('mona', 'vlp'):
        raise UserError(f"{workdir}: a run of wing {wing!r}; fipjax.export needs one of wing 'mona' or 'vlp'")
    foreign = {'mona': {'task': task, 'fraction': fraction}, 'vlp': {'labels': labels}}[wing]
    for flag, value in foreign.items():
        if value is not None:
            raise UserError(f'--{flag}={value}: {workdir} is a run of wing {wing!r}, which has no {flag} to choose')
    saved = _transfer(run, labels) if wing == 'mona' else _together(run, task, fraction)
    _write(folder, saved)
    return f'{folder}: {saved.config["model_type"]}, {len(saved.state)} tensors; see {README} there'


def _write(folder, saved):
    from safetensors.numpy import save_file
    partial = folder.with_name(f'.{folder.name}.{os.getpid()}')
    try:
        partial.mkdir(parents=True)
        state = {k: np.asarray(v, order='C') for k, v in saved.state.items()}
        save_file(state, partial / WEIGHTS, {'format': 'pt'})  # without it transformers refuses
        if saved.target:
            save_file(saved.target, partial / TARGET)
        write_json(partial / CONFIG, saved.config)
        if saved.pictures:
            write_json(partial / 'preprocessor_config.json', saved.pictures)
        (partial / README).write_text(saved.readme, encoding='utf-8')
        partial.replace(folder)
    except OSError as e:
        raise UserError(f'--out={folder}: cannot be written: {e.strerror}') from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _one(flag: str, given, there: Sequence):
    """The one that is meant."""
    if given is None and len(there) == 1:
        return there[0]
    if given not in there:
        what = 'is missing' if given is None else 'is none of the run'
        raise UserError(f'--{flag}{"" if given is None else f"={given}"} {what}; there are '
                        f'{", ".join(map(str, there))}')
    return given


def _transfer(run, labels) -> Saved:
    from fipjax import checkpoint
    from fipjax.data import labelled
    from fipjax.experiments import finished, source
    from fipjax.models import encoders, published
    from fipjax.models.convert import files, saved
    config = finished.config_of(run)
    n = _one('labels', labels, config.transfer.labels_per_class)
    params = checkpoint.read_params(run.workdir / source.PARAMETERS / f'chosen_{n}')
    own, task = encoders.sizes_of(config.encoder), labelled.build(config.target).task
    kind, found = config.encoder.family, files.Checkpoint({}, {}, {}, pathlib.Path(), '')
    if config.init.checkpoint and config.transfer.method != 'scratch':
        found, described = published.checkpoint(config)
        kind = described.kind
    given, changed, pictures = dict(found.config), {}, found.pictures
    if kind == 'swin':
        classes = task.output != 'dense'
        state = saved.pictures(params, own['patch'], classes)
        given, pictures = {k: v for k, v in given.items() if k not in OF_OTHERS}, {}  # its pixels are of other data
        changed = {'architectures': ['SwinForImageClassification' if classes else 'SwinModel'],
                   **(saved.named(task.classes) if classes else {})}
    else:
        state = saved.encoder(kind, params['encoder'], found.state)
        given = {k: v for k, v in given.items() if 'dtype' not in k}  # all is float32
    target = saved.flat({k: params[k] for k in ('embedder', 'predictor')})
    for part, scale in (('inputs', task.inputs), ('outputs', task.scale)):
        target |= {f'{part}.{k}': np.asarray(v, np.float32) for k, v in (scale or {}).items()}
    settings = {**saved.settings(kind, own, state, given), **changed}
    origin = f'{config.init.checkpoint} (sha256 {config.init.sha256})' if found.state else ''
    return Saved(settings, state, target, pictures,
                 readme.transfer(kind, own, task, params, n, str(run.workdir), origin))


def _together(run, task, fraction) -> Saved:
    from ml_collections import ConfigDict

    from fipjax import checkpoint
    from fipjax.algorithms import vlp as algorithm
    from fipjax.data import vl, vl_sets, words
    from fipjax.experiments import finished, pretrained, vlp
    from fipjax.models import vl as models
    from fipjax.models.convert import saved
    config: ConfigDict = finished.config_of(run, config_lib.vlp_base)
    f = config.finetune
    if f.mode != 'full':
        raise UserError(f'{run.workdir}: finetune.mode is {f.mode!r}; such runs keep no parameters, only those with '
                        "mode 'full' do")
    tasks = {vl_sets.label(t): t for t in f.tasks}
    name, at = _one('task', task, tuple(tasks)), vlp.Experiment.at(_one('fraction', fraction, f.fractions))
    params = checkpoint.read_params(run.workdir / pretrained.PARAMETERS / f'{name}@{at}')
    tokenizer = words.build(config.text.tokenizer, 'text.tokenizer')
    made = vl.task(vl_sets.build_task(tasks[name], config), tokenizer, config.text.length, f.inputs).task
    state = saved.together(config.model, params['base'], params['head'])
    settings = saved.together_settings(config.model, params['base'], models.sizes_of(config.model, config.network))
    settings |= {'pad_token_id': tokenizer.pad, **saved.named(made.classes)}
    return Saved(settings, state, {}, {}, readme.together(config.model, made, algorithm.pooler(made.output),
                                                         config.text, f'{name}@{at}', str(run.workdir)))


# --- The command ------------------------------------------------------------------------------------------------------

def command_line() -> None:
    """The command `python -m fipjax.export`; exit code 2 for wrong input."""
    from absl import flags

    from fipjax import launch
    flags.DEFINE_string('workdir', None, "Workdir of a finished run of wing 'mona' or 'vlp'.")
    flags.DEFINE_string('out', None, 'Folder to write; not there yet, or empty.')
    flags.DEFINE_integer('labels', None, "Of wing 'mona': which of transfer.labels_per_class, where there are several.")
    flags.DEFINE_string('task', None, "Of wing 'vlp': which of finetune.tasks, where there are several.")
    flags.DEFINE_float('fraction', None, "Of wing 'vlp': which of finetune.fractions, where there are several.")

    def main(_):
        given = flags.FLAGS
        print(write(given.workdir, given.out, given.labels, given.task, given.fraction))

    launch.start(main)


if __name__ == '__main__':
    command_line()
