"""t-SNE of source features before and after a transfer (MoNA's Figure 2).

    python -m fipjax.analysis.tsne --workdir=DIR [--labels=5]

draws at most 500 source test examples as the source model sees them and as a run's encoder sees them after stage 2;
of a comparison, as that of every method, its first seed. Writes tsne.png and tsne.json, and the report again.
"""
from __future__ import annotations

import numpy as np
from absl import flags

from fipjax import launch
from fipjax.analysis import knowledge, knowledge_pictures, report, table
from fipjax.errors import UserError

COMMAND = 'fipjax.analysis.tsne'
EXAMPLES, PERPLEXITY = 500, 30.0


def project(features, seed: int = 0) -> np.ndarray:
    """t-SNE of standardised features [n, d] to [n, 2]; the same seed gives the same picture.

    van der Maaten and Hinton, JMLR 9 (2008); scikit-learn's, from principal components, perplexity 30 or a third of
    the examples.
    """
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits
    z = StandardScaler().fit_transform(np.asarray(features, np.float64))
    with threadpool_limits(1):  # threads would wait for each other: ten times longer on a busy machine
        return TSNE(perplexity=min(PERPLEXITY, (len(z) - 1) / 3), init='pca', random_state=seed).fit_transform(z)


def write(workdir: str, labels: int | None = None, out: str | None = None, splits=None) -> str:
    """Writes tsne.png and tsne.json of a run or a comparison, and its report if they go into the workdir.

    Args:
      workdir: of a run or a comparison of one source model.
      labels: which transfer, by labels a class; None takes the first of the config.
      out: folder, the workdir if None.
      splits: of the target, where the data of the runs were given in memory.

    Returns:
      A table for people, and the paths of the files.

    Raises:
      UserError: no finished run of wing 'mona', no transfer with so many labels, data or parameters that are not there,
        runs of different source models.
    """
    found = knowledge.find([workdir] if workdir else [], COMMAND)
    folder = knowledge.folder([workdir], out)
    from fipjax.experiments import finished  # here: a wrong command line is answered before models are loaded
    known = {(p.workdir, p.labels): p for p in knowledge.points(found)}
    have = list(dict.fromkeys(p.labels for p in known.values()))
    labels = have[0] if labels is None else labels
    if labels not in have:
        raise UserError(f'--labels={labels}: no transfer with so many labels; there are {", ".join(map(str, have))}')
    firsts = {}
    for run in found:
        point = known.get((str(run.workdir), labels))
        if point and (point.target, point.group) not in firsts:
            firsts[point.target, point.group] = run
    several = len({target for target, _ in firsts}) > 1
    clouds, rows, source, y = [], [], None, None
    for (target, group), opened in zip(firsts, finished.opened(list(firsts.values()), splits), strict=True):
        point = known[str(opened.run.workdir), labels]
        if source is None:
            source = opened.source
            z, y = opened.source_features(source.params['encoder'], EXAMPLES)
            _add(clouds, rows, 'source model', z, point.before)
        elif opened.source.workdir != source.workdir:
            raise UserError(f'{opened.run.workdir}: its source model is another one than that of {found[0].workdir}; '
                            'give the workdir of one run')
        z, _ = opened.source_features(opened.observed(labels, -1)['encoder'], EXAMPLES)
        _add(clouds, rows, f'{group}, {target}' if several else group, z, point.after)
    classes = source.splits.task.classes
    picture = knowledge_pictures.clouds(clouds, y, classes)
    picture['title'] += f' after a transfer with {knowledge.count(labels)}'
    files = knowledge.keep(folder, 'tsne', picture, {
        'labels': labels, 'classes': list(classes), 'y': y.tolist(),
        'panels': [{'title': c.title, 'xy': c.xy.tolist()} for c in clouds]})
    if not out:
        files.append(report.write_report(workdir))
    return table.markdown(table.Grid(('encoder', 'source probe error (%)'), rows,
                                     tuple(('file', str(f)) for f in files), ()))


def _add(clouds, rows, name, z, error):
    text = '-' if error is None else f'{100 * error:.1f}'
    clouds.append(knowledge_pictures.Cloud(f'{name}\nprobe error {text} %', project(z)))
    rows.append(('variant', (name, text)))


def command_line() -> None:
    """The command `python -m fipjax.analysis.tsne`; exit code 2 for wrong input."""
    flags.DEFINE_string('workdir', None, 'Workdir of a finished run or of a comparison.')
    flags.DEFINE_integer('labels', None, 'Labels a class of the transfer, 0 for all; default: the first of the config.')
    flags.DEFINE_string('out', None, 'Folder for the picture and the numbers; default: the workdir, whose report is '
                        'written again.')
    launch.start(lambda _: print(write(flags.FLAGS.workdir, flags.FLAGS.labels, flags.FLAGS.out)))


if __name__ == '__main__':
    command_line()
