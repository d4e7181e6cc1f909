"""One self-contained HTML file for a run or a comparison: table, pictures, cost, config, how to redo it.

    python -m fipjax.analysis.report --workdir=DIR

rebuilds it from the files of the workdir. The page loads nothing from anywhere and holds no script; every
text from a file is escaped.
"""
from __future__ import annotations

import base64
import binascii
import html
import json
import os
import pathlib
import shlex
from collections.abc import Sequence

from absl import flags

from fipjax import launch, writer
from fipjax.analysis import benchmark, grid_pictures, knowledge, knowledge_pictures, pictures, questions, runs, table
from fipjax.analysis.runs import Run
from fipjax.errors import UserError

MOST_SENTENCES = 20  # in a list that is not folded
PNG = b'\x89PNG\r\n\x1a\n'
STYLE = '''
:root { color-scheme: light dark; --page: #fff; --text: #1b1f24; --soft: #59636e; --line: #d8dee4;
  --shade: #f4f6f8; --mark: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --text: #e6e9ec; --soft: #9aa4ae;
  --line: #353c43; --shade: #1e2327; --mark: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 64px; max-width: 1160px; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 40px 0 10px; padding-bottom: 4px; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 0 0 6px; }
.facts { color: var(--soft); margin: 0; font-size: .92rem; overflow-wrap: anywhere; }
.facts b { font-weight: 600; color: var(--text); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; min-width: 60%; }
th, td { padding: 6px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; font-weight: 600; min-width: 6.5em; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
tr.reference td { color: var(--soft); font-style: italic; }
tr.failed td { color: #c0392b; }
tr.first td { border-top: 2px solid var(--line); }
ul { padding-left: 20px; } li { margin: 3px 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; font-size: .88rem;
  color: var(--soft); }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
.pictures { display: grid; gap: 20px; grid-auto-flow: dense;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 500px), 1fr)); }
figure { margin: 0; padding: 14px; border: 1px solid var(--line); border-radius: 8px; min-width: 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff;
  border-radius: 4px; }
figure.wide { grid-column: 1 / -1; }
figcaption { color: var(--soft); font-size: .86rem; margin-top: 8px; }
pre { background: var(--shade); padding: 12px; border-radius: 6px; overflow-x: auto; font-size: .82rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--mark); }
@media (max-width: 600px) { body { padding: 16px 12px 48px; font-size: 15px; }
  dl { grid-template-columns: 1fr; } dd { margin-bottom: 6px; } }
'''


def escape(text) -> str:
    """Text for HTML, quotes included."""
    return html.escape(str(text), quote=True)


def _table(header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    out = ['<div class="scroll"><table><thead><tr>', *(f'<th>{escape(cell)}</th>' for cell in header),
           '</tr></thead><tbody>']
    before = None
    for kind, cells in rows:
        kind = 'reference' if kind in ('trivial', 'chance', 'ceiling', 'other') else kind
        first = ' first' if kind == 'reference' != before else ''
        body = ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
        out.append(f'<tr class="{escape(kind)}{first}">{body}</tr>')
        before = kind
    return ''.join([*out, '</tbody></table></div>'])


def _facts(pairs: Sequence[tuple[str, str]]) -> str:
    return '<dl>' + ''.join(f'<dt>{escape(n)}</dt><dd>{escape(t)}</dd>' for n, t in pairs) + '</dl>'


def _figure(picture: dict) -> str:
    """A figure element; what is not a PNG in base64 is said to be missing instead of being embedded."""
    title, caption = escape(picture.get('title', '')), escape(picture.get('caption', ''))
    try:
        raw = base64.b64decode(str(picture.get('png', '')), validate=True)
    except (binascii.Error, ValueError):
        raw = b''
    if raw.startswith(PNG):
        shown = f'<img alt="{title}" src="data:image/png;base64,{base64.b64encode(raw).decode("ascii")}">'
    else:
        shown = '<p>(the file holds no picture here)</p>'
    kind = ' class="wide"' if picture.get('wide') is True else ''
    return f'<figure{kind}><h3>{title}</h3>{shown}<figcaption>{caption}</figcaption></figure>'


def _section(title: str, *parts: str) -> str:
    body = ''.join(parts)
    return f'<h2>{escape(title)}</h2>{body}' if body else ''


def _gallery(found: Sequence[dict | None]) -> str:
    figures = [_figure(picture) for picture in found if picture]
    return f'<div class="pictures">{"".join(figures)}</div>' if figures else ''


def _sentences(found: Sequence[str]) -> str:
    items = ''.join(f'<li>{escape(sentence)}</li>' for sentence in found)
    return f'<ul>{items}</ul>' if items else ''


def _folded(title: str, *parts: str) -> str:
    return f'<details><summary>{escape(title)}</summary>{"".join(parts)}</details>'


def _details(title: str, value) -> str:
    return _folded(title, f'<pre>{escape(json.dumps(value, indent=2, sort_keys=True))}</pre>')


def _page(title: str, subtitle: Sequence[tuple[str, str]], sections: Sequence[str]) -> str:
    facts = ' &nbsp; '.join(f'<b>{escape(name)}</b> {escape(text)}' for name, text in subtitle if text)
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>'
            f'<p class="facts">{facts}</p>\n' + '\n'.join(section for section in sections if section)
            + '\n</body></html>\n')


def _made(footer: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    known = dict(footer)
    return [(name, known.get(name, '')) for name in ('commit', 'date', 'device', 'seeds', 'config')]


def _cost(run: Run) -> str:
    """Seconds, rate, host share and FLOPs by stage."""
    result = run.result
    parts = {name: result.get(name) or {} for name in ('seconds', 'steps_per_second', 'host_share', 'flops')}
    rows, stages = [], dict.fromkeys([*parts['seconds'], *parts['flops']])
    for stage in sorted(stages, key=lambda s: s == 'total'):  # estimates have FLOPs and no seconds of their own
        if stage.endswith('_step'):
            continue
        share = parts['host_share'].get(stage)
        flops, per_step = (None if value is None else value / 1e9 for value in (
            parts['flops'].get(stage), parts['flops'].get(f'{stage}_step')))
        rows.append(('total' if stage == 'total' else 'stage', (
            stage, *(table.amount(parts[name].get(stage)) for name in ('seconds', 'steps_per_second')),
            '-' if share is None else f'{share:.1%}', table.amount(per_step), table.amount(flops))))
    header = ('stage', 'seconds', 'steps/s', 'host share of a step', 'GFLOP a step', 'GFLOP')
    parameters = ', '.join(f'{name} {count:,}' for name, count in (result.get('parameters') or {}).items())
    below = f'<p class="facts"><b>parameters</b> {escape(parameters)}</p>' if parameters else ''
    return (_table(header, rows) if rows else '') + below


def _again(command: str, commit: str) -> str:
    clean = commit.split()[0] if commit and ',' not in commit else ''
    lines = [f'git checkout {shlex.quote(clean)}'] if clean else []
    note = ('<p class="facts">The working tree held changes that were not committed.</p>' if 'dirty' in commit
            else '')
    return f'<pre>{escape(chr(10).join([*lines, command]))}</pre>{note}'


def run_report(run: Run) -> str:
    """The page of one run."""
    grid = table.run_grid(run)
    rows = [row for row in table.summarise([run]).rows if row.kind != 'variant']
    look = pictures.styles([run.label])
    metrics = table.headline([run])
    command = run.result.get('command') or 'python -m fipjax.main --config=CONFIG --workdir=DIR'
    if isinstance(command, list):
        command = shlex.join(map(str, command))
    name = str(run.result.get('name') or run.workdir.name)
    title = name if run.label == name else f'{name}: {run.label}'
    subtitle = [*_made(grid.footer), ('target', run.result.get('target', ''))]
    images = [picture for picture in run.result.get('pictures') or () if isinstance(picture, dict)]
    return _page(f'{title}, seed {run.seed}', subtitle, [
        _section('Result', _table(grid.header, grid.rows), _facts(grid.footer)),
        _section('Accuracy', _gallery([picture for m in metrics for picture in (
            pictures.accuracy_by([run], m, look, rows=rows), pictures.confusion([run], m))])),
        _section('Source knowledge', _gallery(_knowledge([run], run.workdir, {}))),
        _section('Reconstructions', _gallery(images)),
        _section('Training', _gallery(pictures.curves(run))),
        _section('Cost', _cost(run)),
        _section('Again', _again(command, str(run.result.get('commit', '')))),
        _section('Config', _details('The whole resolved config', run.config))])


def _knowledge(done: Sequence[Run], workdir: pathlib.Path, look, baseline=None) -> list[dict | None]:
    """What runs of wing 'mona' measured of the source model, and the t-SNE that its command left."""
    points = knowledge.points(done)
    several = (knowledge_pictures.discrepancy_bars, knowledge_pictures.distortion) if len(done) > 1 else ()
    found = [draw(points, look, baseline) for draw in (knowledge_pictures.probe_curves, *several)]
    return [*found, knowledge.kept(workdir, 'tsne')]


def _questions(done: Sequence[Run]) -> tuple[str, ...]:
    """What a grid of wing 'vlp' answers."""
    found = questions.effects(done)
    return (_gallery([grid_pictures.heat_map(questions.cells(done))]), _sentences(questions.answers(found)),
            _facts(questions.asked(found)) if found else '')


def _benchmark(done: Sequence[Run]) -> tuple[str, ...]:
    """The table of a published benchmark, where the runs are of one."""
    try:
        grid = benchmark.grid(done)
    except UserError as e:  # more than tasks, methods and seeds was varied
        return (_sentences((str(e),)),)
    return () if grid is None else (_table(grid.header, grid.rows), _sentences(grid.findings), _facts(grid.footer))


def _best(found: table.Table, all_runs: Sequence[Run], metric: str) -> str | None:
    """The variant with the best mean on validation: a picture may not be chosen on test either."""
    name = metric.replace('test/', 'validation/', 1)
    # Runs of wing 'mona' choose by accuracy and report the error.
    names = [name, name.replace('error', 'accuracy')]
    means = {}
    for row in found.variants():
        values = [run.result['metrics'][n] for run in all_runs if run.label == row.label
                  for n in [next((n for n in names if n in run.result['metrics']), None)] if n]
        if values:
            means[row.label] = sum(values) / len(values)
    return max(means, key=means.get) if means else None


def comparison_report(workdir: pathlib.Path) -> str:
    """The page of a comparison, from the runs that are finished so far."""
    plan = runs.load_plan(workdir)
    done = runs.load_comparison(workdir)
    found = table.summarise(done, failures=runs.load_failures(workdir), plan=plan)
    grid = table.grid(found)
    look = pictures.styles([row.label for row in found.variants()], found.baseline)
    groups = {label: [run for run in done if run.label == label] for label in look}
    confusions = []
    best = {metric: _best(found, done, metric) for metric in found.metrics}
    for metric, label in best.items():
        shown = dict.fromkeys(label for label in (found.baseline, label) if label in groups)
        confusions += [pictures.confusion(groups[label], metric, label) for label in shown]
    firsts = {f'{label}, seed {group[0].seed}': group[0] for label, group in groups.items()}
    costs = [f'<h3>{escape(title)}</h3>{_cost(run)}' for title, run in firsts.items()]
    configs = [_details(title, run.config) for title, run in firsts.items()]
    examples = [{**picture, 'title': f'{title}: {picture.get("title", "")}'} for title, run in firsts.items()
                for picture in run.result.get('pictures') or () if isinstance(picture, dict)]
    name = str(done[0].result.get('name') or '') if done else ''
    said = _sentences(grid.findings)
    if len(grid.findings) > MOST_SENTENCES:
        said = _folded(f'{len(grid.findings)} sentences about the table', said)
    return _page(f'{name + ": " if name else ""}comparison of {len(look)} variants', _made(grid.footer), [
        _section('Result', _table(grid.header, grid.rows), said, _facts(grid.footer)),
        _section('Questions', *_questions(done)),
        _section('Benchmark', *_benchmark(done)),
        _section('By variant', _gallery([*(pictures.bars(found, done, m, look) for m in found.judged()),
                                         pictures.forest(found, look)])),
        _section('Accuracy', _gallery([pictures.accuracy_by(done, m, look, found.baseline, found.rows)
                                       for m in found.metrics])),
        _section('Source knowledge', _gallery(_knowledge(done, workdir, look, found.baseline))),
        _section('Training', _gallery(pictures.comparison_curves(done, look, (found.baseline, *best.values())))),
        _section('Confusion', _gallery(confusions),
                 '<p class="facts">Baseline, and the variant that is best on validation.</p>'
                 if any(confusions) else ''),
        _section('Reconstructions', _folded('Show', _gallery(examples)) if examples else ''),
        _section('Cost', _folded('By stage, first seeds', *costs) if costs else ''),
        _section('Again', _again(str(plan.get('command', '')), dict(grid.footer).get('commit', ''))),
        _section('Configs', *configs if len(configs) <= MOST_SENTENCES else [_folded('First seeds', *configs)])])


def write_run_report(workdir: str | os.PathLike) -> pathlib.Path:
    """Writes report.html of a finished run; returns its path.

    Raises:
        UserError: a file of the run is missing or not valid; names it.
    """
    path = pathlib.Path(workdir) / 'report.html'
    writer.write_atomically(path, run_report(runs.load_run(workdir)))
    return path


def write_comparison_report(workdir: str | os.PathLike) -> pathlib.Path:
    """Writes table.md, table.csv and report.html of a comparison, finished or not; returns the page's path.

    Raises:
        UserError: as `write_tables`.
    """
    workdir = pathlib.Path(workdir)
    write_tables(workdir)
    path = workdir / 'report.html'
    writer.write_atomically(path, comparison_report(workdir))
    return path


def write_tables(workdir: pathlib.Path) -> None:
    """Writes table.md and table.csv of a comparison, finished or not.

    Raises:
        UserError: comparison.json or a file of a finished run is missing or not valid; names it.
    """
    found = table.summarise(runs.load_comparison(workdir), failures=runs.load_failures(workdir),
                            plan=runs.load_plan(workdir))
    writer.write_atomically(workdir / 'table.md', table.markdown(table.grid(found)))
    writer.write_atomically(workdir / 'table.csv', table.csv(found))


def write_report(workdir: str | os.PathLike) -> pathlib.Path:
    """`write_comparison_report` where the workdir holds comparison.json, else `write_run_report`."""
    if (pathlib.Path(workdir) / runs.PLAN).exists():
        return write_comparison_report(workdir)
    return write_run_report(workdir)


def command_line() -> None:
    """The command `python -m fipjax.analysis.report`; exit code 2 for wrong input."""
    flags.DEFINE_string('workdir', None, 'Folder of a run or of a comparison.')

    def main(_):
        if not flags.FLAGS.workdir:
            raise UserError('--workdir is missing; usage: python -m fipjax.analysis.report --workdir=DIR')
        print(write_report(flags.FLAGS.workdir))

    launch.start(main)


if __name__ == '__main__':
    command_line()
