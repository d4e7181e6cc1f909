"""Report pages: self-contained, escaped, complete."""
import base64
import html.parser
import re
import subprocess
import sys

import fake_grid
import fake_runs
import pytest

from fipjax.analysis import grid_pictures, knowledge, questions, report, runs
from fipjax.errors import UserError

A5, A50 = 'test/accuracy@5', 'test/accuracy@50'
EVIL = '<script>alert("x")</script>'
PNG = base64.b64encode(report.PNG + b'...').decode()


class Page(html.parser.HTMLParser):
    """Collects tags, texts and the attributes that could load something; checks that tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.links, self.open = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes
                       if name in ('src', 'href', 'srcset', 'action', 'data')]
        assert not any(name.startswith('on') for name, _ in attributes)
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def run_page(tmp_path, *args, **kwargs):
    fake_runs.write_run(tmp_path, *args, **kwargs)
    path = report.write_report(tmp_path)
    assert path == tmp_path / 'report.html'
    return path.read_text(encoding='utf-8')


def comparison_page(tmp_path, **changes):
    fake_runs.write_comparison(tmp_path, {
        'uniform': {0: {A5: 0.50, A50: 0.7}, 1: {A5: 0.55, A50: 0.72}},
        'fip': {0: {A5: 0.58, A50: 0.71}, 1: {A5: 0.61, A50: 0.74}, 2: None}},
        failures=[('fip', 2, f'loss is nan {EVIL}')], **changes)
    return report.write_report(tmp_path).read_text(encoding='utf-8')


def check_self_contained(text):
    page = Page(text)
    assert page.links and all(link.startswith('data:image/png;base64,') for link in page.links)
    assert 'script' not in page.tags and 'link' not in page.tags and 'iframe' not in page.tags
    assert not re.search(r'https?://|@import|url\(', text)
    return page


def test_run_page(tmp_path):
    picture = {'title': 'Reconstruction of image', 'caption': 'grey is masked', 'png': PNG, 'wide': True}
    page = check_self_contained(run_page(tmp_path, fake_runs.result(pictures=[picture], ceiling=0.8)))
    words = ' '.join(page.texts)
    for needle in ('fip, seed 0', 'abc1234', '2026-11-23', 'cpu x 1', 'Reconstruction of image', '35.0',
                   'Curves: pretrain', 'python -m fipjax.main', 'git checkout abc1234', '2.0%',
                   '"steps": 80', '80.0'):
        assert needle in words
    assert page.tags.count('img') == 2 + 2 + 1 + 2  # accuracy, confusion, reconstruction, curves
    assert page.tags.index('table') < page.tags.index('img')


def test_comparison_page(tmp_path):
    page = check_self_contained(comparison_page(tmp_path))
    words = ' '.join(page.texts)
    for needle in ('comparison of 2 variants', 'difference to uniform', 'ridge on pooled pixels',
                   '+7.0 ± 12.7', 'python -m fipjax.compare', 'paired by seed', 'fip seed 2: loss is nan'):
        assert needle in words
    assert page.tags.index('table') < page.tags.index('img')
    assert (tmp_path / 'table.md').read_text(encoding='utf-8').startswith('| variant | seeds |')
    assert (tmp_path / 'table.csv').read_text(encoding='utf-8').startswith('variant,kind,n,')


def test_everything_from_files_is_escaped(tmp_path):
    picture = {'title': EVIL, 'caption': EVIL, 'png': f'{PNG}"><script>'}
    content = fake_runs.result(
        variant=EVIL, name=EVIL, target=EVIL, commit=EVIL, device=EVIL, date=EVIL, trivial_name=EVIL,
        ceiling=0.8, ceiling_reason=EVIL, versions={EVIL: EVIL}, pictures=[picture], command=EVIL,
        metrics={A5: 0.5, f'test/accuracy@{EVIL}': 0.5}, parameters={EVIL: 3}, seconds={EVIL: 2.0})
    content['details'][A5]['classes'][0] = EVIL
    text = run_page(tmp_path, content, config={EVIL: EVIL, 'seed': 0})
    page = check_self_contained(text)
    assert '<script' not in text and ' '.join(page.texts).count(EVIL) >= 12
    assert 'holds no picture' in text  # what only begins like a PNG is not embedded


def test_labels_and_failures_are_escaped_in_a_comparison(tmp_path):
    text = comparison_page(tmp_path)
    assert '<script' not in text and '&lt;script&gt;' in text


def test_a_dirty_tree_is_said(tmp_path):
    text = run_page(tmp_path, fake_runs.result(commit='abc1234 (dirty)'))
    assert 'git checkout abc1234\n' in text and 'not committed' in text


def test_the_total_comes_last_in_the_table_of_costs(tmp_path):
    flops = {'pretrain': 2.4e12, 'total': 3.1e12, 'estimates_step': 0.3e9, 'estimates': 0.7e12}
    text = run_page(tmp_path, fake_runs.result(flops=flops))
    assert text.index('<td>estimates</td>') < text.index('<td>total</td>')


def test_the_variant_shown_is_chosen_on_validation(tmp_path):
    comparison_page(tmp_path)
    done = runs.load_comparison(tmp_path)
    for run in done:
        run.result['metrics']['validation/accuracy@5'] = {'uniform': 0.9, 'fip': 0.1}[run.label]
    found = report.table.summarise(done)
    assert found.rows[1].means[A5].mean > found.rows[0].means[A5].mean
    assert report._best(found, done, A5) == 'uniform'


def test_an_empty_comparison_has_a_page(tmp_path):
    fake_runs.write_comparison(tmp_path, {'uniform': {0: None}, 'fip': {0: None}})
    text = report.write_comparison_report(tmp_path).read_text(encoding='utf-8')
    assert '0 of 2 runs are finished' in text and Page(text).links == []


def test_nothing_is_left_beside_the_files(tmp_path):
    comparison_page(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        'comparison.json', 'report.html', 'runs', 'table.csv', 'table.md']


def test_missing_run_is_named(tmp_path):
    with pytest.raises(UserError, match='result.json: cannot be read'):
        report.write_report(tmp_path)


def test_pictures_without_png_bytes():
    assert 'data:image/png' in report._figure({'title': 't', 'caption': 'c', 'png': PNG})
    for bad in ('', '!!!', base64.b64encode(b'<svg>').decode(), None):
        assert '<img' not in report._figure({'title': 't', 'caption': 'c', 'png': bad})


def test_command(tmp_path):
    fake_runs.write_run(tmp_path)
    command = [sys.executable, '-m', 'fipjax.analysis.report', f'--workdir={tmp_path}']
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == str(tmp_path / 'report.html')
    (tmp_path / 'result.json').write_text('{')
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and 'result.json: not valid JSON' in done.stderr
    assert 'Traceback' not in done.stderr


def test_page_suits_phones_and_dark_rooms(tmp_path):
    text = run_page(tmp_path)
    assert 'prefers-color-scheme: dark' in text and 'width=device-width' in text


def transfer_page(tmp_path, **how):
    fake_runs.write_transfers(tmp_path, seeds=(0, 1), **how)
    return report.write_report(tmp_path).read_text(encoding='utf-8')


def test_comparison_of_transfers_shows_what_became_of_the_source(tmp_path):
    page = check_self_contained(transfer_page(tmp_path, methods=('finetune', 'orca', 'mona'), labels=(5,)))
    words = ' '.join(page.texts)
    for needle in ('Source knowledge', 'Source probe error in stage 2', 'Knowledge discrepancy D by target',
                   'Distortion of the source model against D', 'Spearman', 'logistic regression',
                   'Methods minimise different losses in stage 1'):
        assert needle in words
    assert 't-SNE' not in words


def test_tsne_is_shown_where_its_command_left_it(tmp_path):
    fake_runs.write_run(tmp_path, fake_runs.transfer(), fake_runs.transfer_config())
    knowledge.keep(tmp_path, 'tsne', {'title': f't-SNE {EVIL}', 'caption': 'c', 'wide': True, 'png': PNG}, {'y': [1]})
    text = report.write_report(tmp_path).read_text(encoding='utf-8')
    words = ' '.join(check_self_contained(text).texts)
    assert PNG in text and f't-SNE {EVIL}' in words and 'Source probe error in stage 2' in words
    assert 'Knowledge discrepancy D by target' not in words  # one number, which the table has


def test_methods_are_compared_by_validation_accuracy_where_the_headline_is_an_error(tmp_path):
    fake_runs.write_transfers(tmp_path, methods=('finetune', 'mona'), seeds=(0,), labels=(5,))
    done = runs.load_comparison(tmp_path)
    for run in done:
        run.result['metrics']['validation/accuracy@5'] = {'finetune': 0.9, 'mona': 0.1}[run.label]
    found = report.table.summarise(done)
    assert report._best(found, done, 'test/error@5') == 'finetune'


def test_comparison_of_pretraining_has_heat_map_and_answers(tmp_path):
    fake_grid.write(tmp_path, ('none', 'coco', 'cc'), tasks=('vqa', 'genres'), seeds=(0, 1))
    text = report.write_report(tmp_path).read_text(encoding='utf-8')
    page = check_self_contained(text)
    done = runs.load_comparison(tmp_path)
    assert grid_pictures.heat_map(questions.cells(done))['png'] in text
    said = questions.answers(questions.effects(done))
    assert len(said) == 1 + 1 + 2 + 2 and all(sentence in page.texts for sentence in said)
    for name in ('RQ1', 'RQ4', 'RQ5'):
        assert name in page.texts and questions.ASKED[name] in page.texts
    assert page.texts.index('Questions') < page.texts.index('By variant')  # what was asked comes first
    assert 'Pretraining by task' in page.texts and 'RQ3' not in page.texts


def test_long_lists_are_folded(tmp_path, monkeypatch):
    fake_grid.write(tmp_path, ('none', 'coco'), tasks=('vqa', 'genres'), seeds=(0, 1))
    plan, done = runs.load_plan(tmp_path), runs.load_comparison(tmp_path)
    findings = report.table.grid(report.table.summarise(done, plan=plan)).findings
    assert 3 < len(findings) <= report.MOST_SENTENCES
    monkeypatch.setattr(report.pictures, 'bars', lambda *_: None)
    monkeypatch.setattr(report.pictures, 'forest', lambda *_: None)
    folds = []
    for most in (len(findings), 2):
        monkeypatch.setattr(report, 'MOST_SENTENCES', most)
        page = Page(report.comparison_report(tmp_path))
        assert all(sentence in page.texts for sentence in findings)
        folds.append((f'{len(findings)} sentences about the table' in page.texts, 'First seeds' in page.texts))
    assert folds == [(False, False), (True, True)]
