"""benchmarks/study_pictures.py: tiny arrays through main into folders that fipjax.data.vl_files reads."""
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from test_imports import ROOT

from fipjax.data import vl, vl_files
from fipjax.errors import UserError

sys.path.insert(0, str(ROOT / 'benchmarks'))
import study_pictures  # noqa: E402

REGIONS = ConfigDict({'features': 'crops', 'grid': (1, 2), 'maximum': 8})
NLVR = 60


def arrays(seed=0):
    """NLVR in small: 15 sentences, four pictures each, the last three sentences for the test, some things twice."""
    rng = np.random.default_rng(seed)
    d = {'image': rng.integers(0, 256, (NLVR, 4, 8, 3), np.uint8),
         'sentence': np.array([f'There are {i // 4} boxes.' for i in range(NLVR)]),
         'label': rng.random(NLVR) < 0.5, 'test': np.arange(NLVR) >= 48}
    d['image'][50] = d['image'][0]              # a picture of the test split
    d['sentence'][4] = 'there ARE 12 boxes.'  # a sentence of the test split
    d['image'][9], d['image'][13] = d['image'][8], d['image'][8]  # joins the sentences 2 and 3
    return d


def emoji():
    image = np.zeros((22, 6, 6, 3), np.uint8) + np.arange(22, dtype=np.uint8)[:, None, None, None] * 10
    image[21] = image[3]
    return {'image': image, 'name': np.array([f'name {i}' for i in range(22)])}


def save(path, d):
    np.savez(path, **d)
    return str(path)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pictures')
    study_pictures.main([f'--nlvr={save(folder / "n.npz", arrays())}', f'--emoji={save(folder / "e.npz", emoji())}',
                         f'--out={folder / "out"}'])
    return folder / 'out'


def test_nlvr_is_read_as_a_task_with_its_pictures(written):
    data, d = vl_files.read(str(written / 'nlvr'), REGIONS), arrays()
    assert data.output == 'classes' and set(itertools.chain(*data.answers)) == {'true', 'false'}
    kept = [i for i in range(NLVR) if i not in (0, 4)]  # what shares something with the test split
    assert len(data.text) == len(kept)
    for row, i in enumerate(kept):
        assert data.text[row] == d['sentence'][i]
        assert data.answers[row] == (('true',) if d['label'][i] else ('false',))
        assert (data.split[row] == 'test') == d['test'][i]
        mean = d['image'][i].astype(float).mean() / 127.5 - 1
        assert abs(data.regions.features[data.picture[row], 0].mean() - mean) < 0.05  # resized, so not exactly


def test_no_sentence_and_no_picture_is_in_two_splits(written):
    data = vl_files.read(str(written / 'nlvr'), REGIONS)
    known = [' '.join(t.lower().split()) for t in data.text]
    for key in (known, data.picture.tolist(), [f.tobytes() for f in data.regions.features[data.picture]]):
        where = {}
        for k, split in zip(key, data.split):
            assert where.setdefault(k, split) == split
    share = (data.split == 'validation').sum() / (data.split != 'test').sum()
    assert 0 < share <= 0.18  # whole groups of four or eight of 46


def test_emoji_are_captions_and_equal_pictures_one(written):
    data = vl_files.read(str(written / 'emoji'), REGIONS)
    assert data.answers is None and data.text == tuple(emoji()['name'])
    assert data.picture[21] == data.picture[3] and len(set(data.picture.tolist())) == 21
    train, validation = vl.pretraining(data, _Letters(), 12)
    assert len(train) + len(validation) == 22 and len(validation)


class _Letters:
    pad, cls, sep = 0, 1, 2

    def pieces(self, texts):
        return [[3 + ord(c) for c in t] for t in texts]


def test_groups_are_those_of_a_search_from_example_to_example():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 14, 30), rng.integers(0, 40, 30)
    found = study_pictures.grouped(a, b)
    for start in range(30):
        reached, edge = {start}, [start]
        while edge:
            i = edge.pop()
            new = {j for j in range(30) if a[j] == a[i] or b[j] == b[i]} - reached
            reached, edge = reached | new, edge + list(new)
        assert set(np.flatnonzero(found == found[start]).tolist()) == reached
    assert 1 < len(set(found.tolist())) < 30


def test_a_large_first_group_is_still_drawn_and_draws_repeat():
    group = np.repeat(np.arange(4), 25)
    chosen = study_pictures.drawn(group)
    assert chosen.sum() == 25 and (chosen == study_pictures.drawn(group)).all()


@pytest.mark.parametrize('change, said', [
    (lambda d: d.pop('label'), "no array 'label'; needed: image, sentence, label, test"),
    (lambda d: d.update(label=d['label'].astype(int)), r"'label' is int64 \[60\]; expected bool \[n\]"),
    (lambda d: d.update(sentence=d['sentence'][:5]), "'sentence' is <U19 .5.; expected texts .* 60 rows"),
    (lambda d: d.update(image=d['image'].astype(np.uint16)), "'image' is uint16"),
    (lambda d: d.update(image=d['image'][..., :1]), r"'image' is uint8 \[60, 4, 8, 1\]"),
    (lambda d: d.update(image=d['image'][:0]), "'image' is uint8 .0, 4, 8, 3.; .* none of them empty"),
    (lambda d: d.update(sentence=d['sentence'].astype(object)), 'not an .npz file of plain arrays'),
    (lambda d: d.update(test=np.ones(NLVR, bool)), 'nothing is left for training'),
    (lambda d: d.update(test=np.zeros(NLVR, bool)), "no example in 'test'"),
])
def test_wrong_arrays_are_named(tmp_path, change, said):
    d = arrays()
    change(d)
    with pytest.raises(UserError, match=said) as e:
        study_pictures.main([f'--nlvr={save(tmp_path / "n.npz", d)}', f'--out={tmp_path / "out"}'])
    assert 'n.npz' in str(e.value) and not (tmp_path / 'out').exists()


def test_no_input_a_text_file_a_missing_file_and_a_folder_that_is_there(tmp_path, written):
    out = f'--out={tmp_path}'
    with pytest.raises(UserError, match='give one of --nlvr=FILE, --emoji=FILE'):
        study_pictures.main([out])
    (tmp_path / 'text.npz').write_text('no arrays')
    for name in ('text.npz', 'none.npz'):
        with pytest.raises(UserError, match=f'{name}: not an .npz'):
            study_pictures.main([f'--emoji={tmp_path / name}', out])
    with pytest.raises(UserError, match='nlvr exists; move it away'):
        study_pictures.main([f'--nlvr={tmp_path / "text.npz"}', f'--out={written}'])


def test_the_command_ends_with_the_message_alone(tmp_path):
    done = subprocess.run([sys.executable, ROOT / 'benchmarks' / 'study_pictures.py', f'--out={tmp_path}'],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith('error: nothing to write')


def test_every_line_names_a_picture_file(written):
    for table in ('nlvr/questions.jsonl', 'emoji/captions.jsonl'):
        path = written / table
        named = {json.loads(line)['image'] for line in path.read_text().splitlines()}
        assert named == {p.name for p in (path.parent / 'images').iterdir()}
