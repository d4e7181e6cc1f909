"""One's own pictures and texts: folders, TFDS, easy-VQA; what comes back, and what each mistake is answered with."""
import json
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict

from fipjax.data import scenes, vl, vl_files, wheels, words
from fipjax.errors import UserError

SETTINGS = ConfigDict({'features': 'crops', 'grid': (2, 2), 'maximum': 8})
NAMES = [f'p{i}' for i in range(30)]


def arrays(n=30, f=5, seed=0):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.5, (n, 3, 2))
    return {'names': np.array(NAMES[:n]), 'features': rng.normal(size=(n, 3, f)).astype(np.float32),
            'boxes': np.concatenate([low, low + rng.uniform(0.1, 0.5, (n, 3, 2))], -1).astype(np.float32),
            'count': rng.integers(1, 4, n).astype(np.int32)}


def captions(n=30, **changes):
    return [{'image': NAMES[i], 'caption': f'caption {i} {k}', **changes} for i in range(n) for k in range(2)]


def questions(n=30, **changes):
    return [{'image': NAMES[i], 'question': f'what is {i}?', **({'answer': 'ab'[i % 2]} | changes)} for i in range(n)]


def folder(path, lines, table=None, facts=None, **more):
    """A folder with regions.npz; lines are objects, text or bytes."""
    path.mkdir(exist_ok=True)
    if table is None:
        table = f'{"captions" if "caption" in lines[0] else "questions"}.jsonl'
    raw = [x if isinstance(x, bytes) else (x if isinstance(x, str) else json.dumps(x)).encode() for x in lines]
    (path / table).write_bytes(b'\n'.join(raw))
    np.savez(path / 'regions.npz', **arrays())
    if facts is not None:
        (path / 'dataset.json').write_text(facts if isinstance(facts, str) else json.dumps(facts))
    for name, text in more.items():
        (path / f'{name}.txt').write_text(text)
    return str(path)


def read(path):
    return vl_files.read(path, SETTINGS, 'pretrain.data')


def same(a, b):
    for field in vl.Set._fields:
        x, y = getattr(a, field), getattr(b, field)
        if isinstance(x, vl.Regions):
            for name in vl.Regions._fields[:4]:
                assert (getattr(x, name) is None) == (getattr(y, name) is None)
                if getattr(x, name) is not None:
                    np.testing.assert_array_equal(getattr(x, name), getattr(y, name))
                    assert getattr(x, name).dtype == getattr(y, name).dtype
            assert x.detector == y.detector
        elif isinstance(x, np.ndarray):
            assert x.tolist() == y.tolist() and x.dtype.kind == y.dtype.kind
        else:
            assert x == y, field


def made(output, classes=False, vocabulary=()):
    table = arrays(6)
    probs = np.random.default_rng(3).dirichlet(np.ones(4), (6, 3)).astype(np.float32)
    valid = (np.arange(3) < table['count'][:, None])[..., None]
    cut = lambda x: np.where(valid, x, 0)  # noqa: E731
    given = {'': None, 'answers': (('a', 'b'), ('b',) * 10, ('c',), ('a',)), 'classes': (('a',), ('b',)) * 2,
             'labels': ((), ('b', 'a'), ('a',), ('c',))}[output]
    return vl.Set('mine', vl.Regions(cut(table['features']), cut(table['boxes']), table['count'],
                                     cut(probs) if classes else None, 'r101'),
                  np.array([5, 0, 3, 5], np.int32), ('one "q"', 'zwei \u00fc', '\u4e09', 'four\nlines'), given, output,
                  np.array(['train', 'validation', 'test', 'train']), vocabulary, 'made up')


@pytest.mark.parametrize('output, classes, vocabulary', [
    ('', True, ()), ('answers', False, ()), ('answers', True, ('<unk>', 'b', 'a')), ('classes', False, ('b', 'a')),
    ('labels', False, ('a', 'b', 'c', 'd'))])
def test_what_is_written_comes_back(tmp_path, output, classes, vocabulary):
    data = made(output, classes, vocabulary)
    vl_files.write(tmp_path / 'new' / 'set', data)
    same(read(str(tmp_path / 'new' / 'set')), data)
    assert [p.name for p in (tmp_path / 'new').iterdir()] == ['set']  # nothing half-written beside it
    with pytest.raises(UserError, match='set exists; move it away'):
        vl_files.write(tmp_path / 'new' / 'set', data)


def test_generated_sets_come_back(tmp_path):
    for name, data in (('a', scenes.pretraining('cc', 30, 0)), ('b', scenes.pretraining('vqa', 30, 0)),
                       ('c', scenes.task('entailment', {'train': 9, 'validation': 3, 'test': 6}, 0))):
        vl_files.write(tmp_path / name, data)
        same(read(str(tmp_path / name)), data)


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    (tmp_path / '.set.part').mkdir()
    (tmp_path / '.set.part' / 'left over').write_text('by a run that was killed')
    with monkeypatch.context() as m:
        m.setattr(np, 'savez', lambda *a, **k: (_ for _ in ()).throw(OSError('disk full')))
        with pytest.raises(OSError, match='disk full'):
            vl_files.write(tmp_path / 'set', made(''))
    assert not (tmp_path / 'set').exists()
    vl_files.write(tmp_path / 'set', made(''))
    assert sorted(p.name for p in (tmp_path / 'set').iterdir()) == ['captions.jsonl', 'dataset.json', 'regions.npz']
    same(read(str(tmp_path / 'set')), made(''))


def test_captions(tmp_path):
    lines = captions()
    data, table = read(folder(tmp_path / 'flowers', lines)), arrays()
    assert data.name == 'flowers' and data.output == '' and data.answers is None and data.vocabulary == ()
    assert data.text == tuple(x['caption'] for x in lines)
    assert data.picture.tolist() == [NAMES.index(x['image']) for x in lines] and data.picture.dtype == np.int32
    rows = data.picture[7]
    np.testing.assert_array_equal(data.regions.features[rows, 0], table['features'][rows, 0])
    assert '60 captions about 30 pictures' in data.description


def test_questions_are_one_of_three_kinds(tmp_path):
    kinds = (('answers', ['x', 'y'], 'answers', ('x', 'y')), ('answer', 'x', 'classes', ('x',)),
             ('labels', ['x', 'z'], 'labels', ('x', 'z')))
    for key, value, output, answers in kinds:
        lines = [{'image': n, 'question': 'q?', key: value, 'id': i} for i, n in enumerate(NAMES)]
        data = read(folder(tmp_path / key, lines))
        assert data.output == output and data.answers == (answers,) * 30


def test_splits_are_drawn_by_picture(tmp_path):
    for name, lines, sizes in (('c', captions(), {'train': 28, 'validation': 2}),
                               ('q', questions(), {'train': 24, 'validation': 3, 'test': 3})):
        data = read(folder(tmp_path / name, lines))
        where = {}
        for p, s in zip(data.picture, data.split, strict=True):
            assert where.setdefault(p, s) == s
        assert {s: list(where.values()).count(s) for s in where.values()} == sizes
        assert read(str(tmp_path / name)).split.tolist() == data.split.tolist()


def test_splits_are_those_of_the_lines(tmp_path):
    words = [vl_files.SPLITS[i % 3] for i in range(30)]
    data = read(folder(tmp_path / 'a', [{**q, 'split': w} for q, w in zip(questions(), words, strict=True)]))
    assert data.split.tolist() == words
    words = ['test' if i < 10 else 'train' for i in range(30)]  # validation is taken from training
    data = read(folder(tmp_path / 'b', [{**q, 'split': w} for q, w in zip(questions(), words, strict=True)]))
    assert data.split[:10].tolist() == ['test'] * 10 and sorted(data.split[10:]) == ['train'] * 18 + ['validation'] * 2


def test_a_vocabulary_from_either_file(tmp_path):
    lines = questions(answers=['b', 'z'])
    for line in lines:
        del line['answer']
    for name, more in (('a', {'facts': {'answers': ['b', 'a']}}), ('b', {'answers': 'b\r\na\r\n'}),
                       ('c', {'answers': '<unk>\nb\na'})):
        assert read(folder(tmp_path / name, lines, **more)).vocabulary == ('<unk>', 'b', 'a')
    data = read(folder(tmp_path / 'd', questions(), answers='a\nb\nc', facts={'name': 'N', 'description': 'D',
                                                                              'detector': 'X'}))
    assert (data.vocabulary, data.name, data.description, data.regions.detector) == (('a', 'b', 'c'), 'N', 'D', 'X')


def test_byte_order_marks_blank_lines_and_windows(tmp_path):
    lines = [b'\xef\xbb\xbf' + json.dumps(captions()[0]).encode() + b'\r', b'', *captions()[2:], '']
    assert len(read(folder(tmp_path / 'a', lines, 'captions.jsonl')).text) == 59


def test_pictures_and_tasks_together(tmp_path):
    """A folder of pictures becomes batches of a task."""
    from PIL import Image

    (tmp_path / 'images').mkdir()
    rng = np.random.default_rng(0)
    for name in NAMES:
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8).astype(np.uint8)).save(
            tmp_path / 'images' / f'{name}.png')
    lines = [{**q, 'image': f'{q["image"]}.png'} for q in questions()]
    (tmp_path / 'questions.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    data = read(str(tmp_path))
    assert data.regions.features.shape == (30, 5, 192) and data.regions.detector == 'crops'
    splits = vl.task(data, words.build('basic'), 12)
    out = splits.test.take(np.arange(3))
    assert out['features'].shape == (3, 5, 192) and out['y'].tolist() == [int(i) % 2 for i in splits.test.ids]
    assert splits.task.classes == ('a', 'b')


def bad(i, line):
    """Captions with another line i."""
    return [line if k == i else x for k, x in enumerate(captions())]


@pytest.mark.parametrize('lines, message', [
    (bad(3, '{"image": '), 'captions.jsonl, line 4: not JSON'),
    (bad(3, '[1]'), 'line 4: list; a JSON object'),
    (bad(3, b'{"image": "p1", "caption": "\xff"}'), r'line 4: not UTF-8 .*at byte 28'),
    (bad(3, '{"image": "p1", "caption": "a", "caption": "b"}'), "line 4: a key occurs twice"),
    (bad(3, '[' * 100000), 'line 4: not JSON'),
    (bad(3, {'image': 'p1', 'caption': '\ud83d'}), 'line 4: .* half of a character'),
    (bad(0, {'caption': 'a'}), "line 1: no 'image'; needed: image, caption"),
    (bad(0, {'image': 'p1', 'caption': '  '}), "line 1: 'caption' is '  '; a text is needed"),
    (bad(0, {'image': 'p1', 'caption': None}), "line 1: 'caption' is None"),
    (bad(0, {'image': 7, 'caption': 'a'}), "line 1: 'image' is 7; a text"),
    (bad(0, {'image': 'p1', 'caption': 'a', 'colour': 1}), "line 1: unknown key 'colour'; allowed: image, caption"),
    (bad(0, {'image': 'p1', 'caption': 'a', 'answer': 'b'}), "line 1: unknown key 'answer'"),
    (bad(0, {'image': 'p1', 'caption': 'a', 'split': 'dev'}), "line 1: 'split' is 'dev'; allowed: train, val"),
    (bad(5, {'image': 'p1', 'caption': 'a', 'split': 'train'}), "line 1: no 'split', but .*line 6 has one"),
    (captions(split='validation'), "no example in the split 'train' is left"),
    (captions(1), "no example in the split 'train' is left; 1 pictures in all"),
    (bad(1, {'image': 'p1', 'caption': 'a', 'id': 5}) + [{'image': 'p1', 'caption': 'b', 'id': 5}],
     'line 61: the id 5 is that of line 2, too'),
    (bad(1, {'image': 'p1', 'caption': 'a', 'id': [5]}), 'line 2: "id" is .5.; a text or an integer'),
    (bad(9, {'image': 'nowhere', 'caption': 'a'}), r"no picture 'nowhere' \(1 of 31 are missing\)"),
    *[(bad(2, {'image': name, 'caption': 'a'}), "line 3: 'image' is .*needed: a name inside images/ or features/")
      for name in ('../p1', '/etc/passwd', 'a/../../p1', 'a\\b', 'C:p', 'a\0b')],
    ([' ', ''], 'captions.jsonl: no line'),
])
def test_bad_captions_are_named(tmp_path, lines, message):
    path = folder(tmp_path / 'a', lines, 'captions.jsonl')
    with pytest.raises(UserError, match=message) as found:
        read(path)
    assert path in str(found.value)


def ask(i, **fields):
    """Questions with another line i, without its answer."""
    return [({k: v for k, v in x.items() if k != 'answer'} | fields) if k == i else x
            for k, x in enumerate(questions())]


@pytest.mark.parametrize('lines, more, message', [
    (ask(4), {}, 'questions.jsonl, line 5: no answer; needed: one of answers, answer, labels'),
    (ask(4, answer='a', labels=['a']), {}, 'line 5: answer, labels; needed: one of'),
    (ask(4, answer=''), {}, "line 5: 'answer' is ''; needed: a text"),
    (ask(4, answer=3), {}, "line 5: 'answer' is '3'; needed: a text"),
    (ask(0, answers=[]), {}, "line 1: 'answers' is .* needed: a list of 1 to 10 texts"),
    (ask(0, answers=['a'] * 11), {}, "line 1: 'answers' is .* needed: a list of 1 to 10 texts"),
    (ask(0, answers='red'), {}, "line 1: 'answers' is 'red'"),
    (ask(0, labels=['a', 3]), {}, "line 1: 'labels' is .* needed: a list of texts"),
    (ask(0, answer='\udc00'), {}, 'line 1: .* half of a character'),
    (ask(4, labels=['a']), {}, "line 5: 'labels', but .*line 1 has 'answer'; one kind"),
    (ask(4, answer='z'), {'answers': 'a\nb'}, r"line 5: the answer 'z' is not in the vocabulary of .*txt \(2: a, b\)"),
    (questions(), {'answers': 'a\nb\na'}, "answers.txt: the answer 'a' occurs twice"),
    (questions(), {'answers': 'a\n\nb'}, 'answers.txt: the vocabulary of answers must be a list of texts, none'),
    (questions(), {'answers': 'a\nb', 'facts': {'answers': ['a']}}, 'in dataset.json and in answers.txt; keep one'),
    (questions(), {'facts': {'answers': 'a b'}}, 'dataset.json: the vocabulary of answers must be a list'),
    (questions(), {'facts': {'detectors': 'a'}}, "dataset.json: unknown key 'detectors'; allowed: name, description"),
    (questions(), {'facts': {'detector': 3}}, "dataset.json: 'detector' is 3; a text is needed"),
    (questions(), {'facts': '{'}, 'dataset.json: not JSON'),
    (captions(), {'answers': 'a'}, 'answers.txt: a vocabulary of answers, but the texts are captions'),
    ([{**q, 'split': ('train', 'test')[i % 2], 'image': 'p0' if i == 5 else q['image']}
      for i, q in enumerate(questions())], {},
     "line 6: the picture 'p0' is in 'test', but in 'train' in .*line 1; a picture may be in one split"),
])
def test_bad_questions_are_named(tmp_path, lines, more, message):
    path = folder(tmp_path / 'a', lines, **more)
    with pytest.raises(UserError, match=message) as found:
        read(path)
    assert path in str(found.value)


def test_annotators_may_say_what_is_not_in_the_vocabulary_but_not_all(tmp_path):
    lines = ask(3, answers=['z'])
    lines = [{**{k: v for k, v in x.items() if k != 'answer'}, 'answers': x.get('answers', ['a'])} for x in lines]
    assert read(folder(tmp_path / 'a', lines, answers='a\nb')).answers[3] == ('z',)
    with pytest.raises(UserError, match='b/answers.txt: no answer of any question is in the vocabulary .3 answers, '
                                        "e.g. x, y.; found e.g. 'a' in .*line 1"):
        read(folder(tmp_path / 'b', lines, answers='x\ny'))
    with pytest.raises(UserError, match="'<unk>' is answer 1; it must be answer 0, or none"):
        read(folder(tmp_path / 'c', lines, answers='a\n<unk>'))


def test_bad_folders(tmp_path):
    for path in ('', str(tmp_path / 'no')):
        with pytest.raises(UserError, match='pretrain.data: no such folder'):
            read(path)
    (tmp_path / 'a').mkdir()
    with pytest.raises(UserError, match='a has neither captions.jsonl and questions.jsonl; one is needed'):
        read(str(tmp_path / 'a'))
    folder(tmp_path / 'a', captions())
    with pytest.raises(UserError, match='a has both captions.jsonl and questions.jsonl'):
        read(folder(tmp_path / 'a', questions()))
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'answers.txt').write_bytes(b'a\xff')
    with pytest.raises(UserError, match='answers.txt: not UTF-8'):
        read(folder(tmp_path / 'b', questions()))


@pytest.fixture(scope='module')
def easy():
    return vl_files.easy_vqa(SETTINGS)


def test_easy_vqa(easy):
    assert 'easy_vqa' not in sys.modules  # read, not imported
    assert easy.regions.features.shape == (5000, 5, 192) and easy.output == 'classes' and len(easy.vocabulary) == 13
    pictures = {s: set(easy.picture[easy.split == s].tolist()) for s in vl_files.SPLITS}
    assert {s: len(p) for s, p in pictures.items()} == {'train': 3600, 'validation': 400, 'test': 1000}
    assert not pictures['train'] & pictures['validation'] and max(pictures['train']) < 4000 <= min(pictures['test'])
    assert (easy.split == 'test').sum() == 9673 and len(easy.text) == 9673 + 38575
    first_test = int(np.argmax(easy.split == 'test'))
    assert easy.text[0] == 'what is the blue shape?' and easy.answers[0] == ('rectangle',)
    assert easy.text[first_test] == 'what is the red shape?' and easy.answers[first_test] == ('triangle',)
    assert {w for t in easy.text for w in t.strip('?').split()} == set(words.EASY_VQA)


def test_easy_vqa_pictures_belong_to_their_questions(easy):
    """The colour that is asked for is in the picture: background aside, its mean colour is nearest to that name's."""
    colours = {'red': (1, -1, -1), 'blue': (-1, -1, 1), 'yellow': (1, 1, -1), 'black': (-1, -1, -1)}
    right = []
    for text, (answer,), p in zip(easy.text, easy.answers, easy.picture, strict=True):
        if text == 'what color is the shape?' and answer in colours:
            x = easy.regions.features[p, 0].reshape(64, 3)
            corner = x[0]
            far = x[np.argmax(np.abs(x - corner).sum(1))]
            right.append(min(colours, key=lambda c: np.abs(far - colours[c]).sum()) == answer)  # noqa: B023
    assert len(right) > 200 and np.mean(right) > 0.9


def test_easy_vqa_elsewhere(monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(wheels, 'EASY_VQA_SHA256', '0' * 64)
        with pytest.raises(UserError, match='not the files that finetune.tasks means .sha256 0000'):
            vl_files.easy_vqa(SETTINGS, 'finetune.tasks')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match='finetune.tasks: easy-VQA lies in the package easy-vqa, which is not') as found:
        vl_files.easy_vqa(SETTINGS, 'finetune.tasks')
    assert wheels.COMMAND in str(found.value)
