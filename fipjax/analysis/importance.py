"""How important is each modality for the downstream task: all estimators with labels, beside labels drawn at random.

    python -m fipjax.analysis.importance --run=WORKDIR [--draws=40] [--out=DIR]
    python -m fipjax.analysis.importance --config=FILE[:VARIANT] [--config.KEY=VALUE ...] --out=DIR [--draws=40]

The first asks a finished run of the wing 'fip', with the encoder that it pretrained; of its config only the keys of
pretrain.fip.downstream can be overridden. The second asks the data alone: 'cosine', 'dot' and 'meta' are then those of
the encoder before its first step, and 'ablation' takes the raw values of each modality for its code
(importance_draws.raw_codes), F numbers in all, with the probe's penalty times F / model.dim.

A draw k = 0, 1, ... is another batch of unlabelled examples, other masks and other halves of the labelled examples, at
the same parameters; its scores s_m are those of fipjax.algorithms.importance, once with the labels and once with the
labels in an order of draw k. From them, for each estimator and modality,

    gain         mean over draws of s_m with the labels - mean of s_m with shuffled ones
    interval     2.5 and 97.5 percentiles over draws
    told apart   the mean with the labels is outside the interval of the shuffled ones

As the halves are random, the spread over draws approximates the sampling error of the labelled set itself (balanced
half-sampling, delete-half jackknife: the mean of a random half varies about that of the whole as much as the whole
about the truth); batches and masks add theirs. Each shuffled draw has an order of its own, so the luck of the order is
in their interval, too. Shuffling takes the labels from all modalities at once, and what a probe overfits changes with
it: 'ablation' can tell a modality without any information apart by a little. 'meta' is taken at the weights that a run
with estimated weights ended with, else at equal ones.

What is suggested (`suggest`) is our rule in the direction of FIP: what matters more gets more weight, harder masks, a
deeper decoder. No paper gives it, and nothing beyond docs/results.md has tested it.
"""
from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import stats

from fipjax import config as config_lib
from fipjax.algorithms import importance
from fipjax.analysis import importance_pictures, knowledge
from fipjax.errors import UserError
from fipjax.writer import write_atomically

FEWEST, RANGE = 10, (2.5, 97.5)      # draws; percentiles
RATIOS, DEPTHS = (0.5, 0.9), (1, 4)  # what is suggested stays inside


# --- From scores to weights: no data, no model ------------------------------------------------------------------------

class Score(NamedTuple):
    """What one estimator says of one modality; see this module's docstring."""

    mean: float
    low: float
    high: float
    shuffled_mean: float
    shuffled_low: float
    shuffled_high: float
    gain: float
    told_apart: bool


class Suggestion(NamedTuple):
    """What to pretrain a modality with."""

    weight: float
    mask_ratio: float
    decoder_depth: int


def summarise(scores, shuffled) -> list[Score]:
    """A Score for each modality; `scores` and `shuffled` are [draws, M]."""
    out = []
    for own, other in zip(np.asarray(scores, float).T, np.asarray(shuffled, float).T, strict=True):
        (low, high), (other_low, other_high) = np.percentile(own, RANGE), np.percentile(other, RANGE)
        mean, other_mean = own.mean(), other.mean()
        out.append(Score(*map(float, (mean, low, high, other_mean, other_low, other_high, mean - other_mean)),
                         bool(mean < other_low or mean > other_high)))
    return out


def agreement(gains: Sequence[float], others: Sequence[float]) -> float | None:
    """Spearman's correlation over the modalities; None where one of the two is constant. Of two modalities +1 or -1."""
    if np.ptp(gains) == 0 or np.ptp(others) == 0:
        return None
    return float(stats.spearmanr(gains, others).statistic)


def suggest(found: Sequence[Score], settings: importance.Settings, updates: int, mask_ratio: Sequence[float],
            decoder_depth: Sequence[int]) -> list[Suggestion]:
    """Our rule in the direction of FIP, see this module's docstring.

    z_m = rate updates gain_m where told apart, else 0: where weights that a run estimates would end if scores stayed as
    they are. From z the weights w of importance (2); the visible share of m divided by sqrt(w_m), the mask ratio inside
    RATIOS; the decoder's depth times w_m, rounded, inside DEPTHS. Where w_m is 1 both stay as they are.

    Args:
      found: of each modality.
      settings: rate, floor and temperature count.
      updates: estimates of a run.
      mask_ratio, decoder_depth: of each modality in the config.
    """
    z = settings.rate * updates * np.array([s.gain if s.told_apart else 0.0 for s in found])
    out = []
    for w, ratio, depth in zip(np.asarray(importance.weights({'z': jnp.asarray(z)}, settings), float), mask_ratio,
                               decoder_depth, strict=True):
        if abs(w - 1) > 1e-6:
            ratio = np.clip(1 - (1 - ratio) / np.sqrt(max(w, 1e-6)), *RATIOS)
            depth = np.clip(np.floor(depth * w + 0.5), *DEPTHS)
        out.append(Suggestion(float(w), float(ratio), int(depth)))
    return out


def options(suggested: Mapping[str, Suggestion], weights: str) -> list[str]:
    """The command-line options that ask for a suggestion; `weights`: pretrain.fip.weights of the config."""
    out = [] if weights == 'prior' else ['--config.pretrain.fip.weights=prior']
    for field, key, form in (('weight', 'loss_weight', '.3g'), ('mask_ratio', 'mask_ratio', '.3g'),
                             ('decoder_depth', 'decoder_depth', 'd')):
        out += [f'--config.pretrain.fip.{key}.{m}={getattr(s, field):{form}}' for m, s in suggested.items()]
    return out


# --- The command ------------------------------------------------------------------------------------------------------

def results(opened, scores: Mapping[str, np.ndarray]) -> dict:
    """What importance.json has of each estimator, and by which of them something is suggested.

    Args:
      opened: importance_draws.Opened.
      scores: as from importance_draws.measure.
    """
    config, parts, names = opened.config, opened.parts, list(opened.parts.modalities)
    f = config.pretrain.fip
    depth = config_lib.by_modality(f.decoder_depth, names, f.target)
    updates = (config.pretrain.steps - 1) // f.downstream.every  # as Estimator.update has it: none at step 0
    found = {method: summarise(*both) for method, both in scores.items()}
    gains = {method: [s.gain for s in own] for method, own in found.items()}
    chosen = f.downstream.method if f.downstream.method in scores else 'cosine'
    estimators = {}
    for method, (own, shuffled) in scores.items():
        proposal = suggest(found[method], opened.settings, updates, [parts.settings.mask_ratio[m] for m in names],
                           [depth[m] for m in names])
        estimators[method] = {
            'modalities': {m: s._asdict() for m, s in zip(names, found[method], strict=True)},
            'suggestion': {m: s._asdict() for m, s in zip(names, proposal, strict=True)},
            'options': options(dict(zip(names, proposal, strict=True)), f.weights),
            'scores': dict(zip(names, own.T.tolist(), strict=True)),
            'shuffled_scores': dict(zip(names, shuffled.T.tolist(), strict=True))}
    ranks = {method: agreement(own, gains['ablation']) for method, own in gains.items() if method != 'ablation'}
    return {'suggested_by': chosen, 'updates': updates, 'rank_correlation_with_ablation': ranks,
            'config': {m: {'mask_ratio': parts.settings.mask_ratio[m], 'decoder_depth': depth[m]} for m in names},
            'estimators': estimators}


def write(run: str | None = None, config: str | None = None, overrides=(), draws: int = 40, out: str | None = None,
          splits=None, progress: bool = True) -> str:
    """Measures; writes importance.md, .json and .png.

    Args:
      run: workdir of a finished run; config: FILE or FILE:VARIANT, for data alone. One of the two.
      overrides: [(dotted key, text)] for the config.
      draws: at least FEWEST.
      out: folder; WORKDIR/importance if None.
      splits: data in memory instead of what the config names.

    Returns:
      The text of importance.md, and the paths of the files.

    Raises:
      UserError: not one of run and config, too few draws, no folder; see importance_draws.
    """
    if bool(run) == bool(config):
        raise UserError(f'{"both" if run else "neither"} of --run and --config given; allowed: --run=WORKDIR of a '
                        'finished run, or --config=FILE for data alone')
    if draws < FEWEST:
        raise UserError(f'--draws={draws}; allowed: {FEWEST} or more')
    if config and not out:
        raise UserError('--out=DIR is missing; with --config it says where the results go')
    # Imported here: a wrong command line is answered before Orbax and grain are loaded.
    from fipjax.analysis import importance_draws
    from fipjax.experiments.base import provenance
    opener = importance_draws.open_run if run else importance_draws.open_config
    opened = opener(run or config, overrides, splits, progress)
    folder = knowledge.folder([str(pathlib.Path(run or '') / 'importance')], out)
    scores, seconds = importance_draws.measure(opened, draws, progress)
    c, downstream = opened.config, opened.config.pretrain.fip.downstream
    about = {'run': run, 'config_file': config, 'overrides': [f'{k}={v}' for k, v in overrides], 'name': c.name,
             'variant': c.variant, 'seed': c.seed, 'trained': opened.trained, 'step': opened.step,
             'target': c.pretrain.fip.target, 'weights': c.pretrain.fip.weights, 'draws': draws,
             'batch_size': c.pretrain.batch_size, 'unlabelled_examples': len(opened.source),
             'labelled_examples': len(opened.labelled), 'labelled_from': downstream.path or 'the training split',
             'classes': list(opened.classes), 'downstream': downstream.to_dict(), 'seconds': seconds, **provenance(),
             'device': importance_draws.device()}
    numbers = {'about': about, **results(opened, scores)}
    text = importance_pictures.text(numbers)
    files = knowledge.keep(folder, 'importance', importance_pictures.picture(numbers), numbers)
    write_atomically(folder / 'importance.md', text)
    return text + ''.join(f'- file: {f}\n' for f in [folder / 'importance.md', *files])


def command_line() -> None:
    """The command `python -m fipjax.analysis.importance`; exit code 2 for wrong input."""
    from absl import flags

    from fipjax import launch
    flags.DEFINE_string('run', None, 'Workdir of a finished run of the wing fip.')
    flags.DEFINE_string('config', None, 'FILE or FILE:VARIANT, for data alone; its keys are set by --config.KEY=VALUE.')
    flags.DEFINE_integer('draws', 40, f'Draws of batch, masks and halves of the labels; at least {FEWEST}.')
    flags.DEFINE_string('out', None, 'Folder for table, numbers and picture; default: WORKDIR/importance.')
    given = flags.FLAGS
    launch.start(lambda overrides: print(write(given.run, given.config, overrides, given.draws, given.out), end=''))


if __name__ == '__main__':
    command_line()
