"""Vision-language sets from published files to a batch of the wing 'vlp'; damaged files leave nothing behind."""
import json
import tracemalloc

import numpy as np
import pytest
import tensorflow_datasets as tfds
import vl_official
from ml_collections import ConfigDict

from fipjax.data import detector_files, vl, vl_sets, words
from fipjax.data.builders import prepared, vision_language
from fipjax.errors import UserError

SETTINGS = {'features': 'crops', 'grid': (2, 2), 'maximum': 100}
SETS = {  # annotations, features; the kinds of files are spread over the sets
    'vqa2': (vl_official.vqa2_json, lambda p, n: vl_official.mmf_lmdb(p / 'trainval.lmdb', n)),
    'vqa2_masked': (vl_official.vqa2_json, lambda p, n: vl_official.mmf_npy(p / 'npy', n, background=False)),
    'coco_captions': (vl_official.coco_json, lambda p, n: vl_official.tsv(p / 'x.tsv', n)),
    'vizwiz': (vl_official.vizwiz_json, lambda p, n: vl_official.hdf5(p / 'x.h5', n)),
    'snli_ve': (vl_official.snli_ve_jsonl, lambda p, n: vl_official.mmf_lmdb(p / 'x.lmdb', n)),
    'mm_imdb': (vl_official.mm_imdb_json, lambda p, n: vl_official.mmf_npy(p / 'npy', n)),
    'conceptual_captions': (vl_official.cc_tsv, lambda p, n: vl_official.tsv(p / 'x.tsv', n, 'vilbert'))}


def files(tmp_path, name):
    """manual_dir of a set."""
    folder = tmp_path / name
    names = SETS[name][0](folder / 'annotations')
    (folder / 'features').mkdir()
    SETS[name][1](folder / 'features', names)
    return folder


def prepare(tmp_path, name, manual_dir=None):
    return prepared.prepare(prepared.tasks()[name], manual_dir or files(tmp_path, name), tmp_path / 'data', False)


def read(tmp_path, name):
    config = ConfigDict({'sets': {'data_dir': str(tmp_path / 'data')}, 'regions': SETTINGS})
    kind = vl_sets.build_task if name in TASKS else vl_sets.build_pretraining
    return kind(f'tfds:{name}', config)


TASKS = {'vqa2': ('answers', ('<unk>', '2', 'red', 'unanswerable', 'no', 'yes'), (8, 4, 12)),
         'vizwiz': ('answers', ('<unk>', '2', 'no', 'yes', 'red'), (3, 2, 6)),
         'snli_ve': ('classes', ('entailment', 'neutral', 'contradiction'), (6, 6, 6)),
         'mm_imdb': ('labels', ('<unk>', 'Comedy', 'Drama', 'War'), (3, 1, 1))}
PRETRAINING = {'vqa2_masked': (80, 40), 'coco_captions': (6, 2), 'conceptual_captions': (6, 2)}


def same_regions(batch, name_of):
    """Whether rows have the regions of the pictures that name_of(id) names."""
    for row, number in enumerate(batch['id']):
        features, boxes, probs = vl_official.regions(name_of(number))
        np.testing.assert_array_equal(batch['features'][row], features)
        np.testing.assert_allclose(batch['boxes'][row, :, :4] * ([vl_official.WIDTH, vl_official.HEIGHT] * 2), boxes,
                                   rtol=1e-5)
        if 'classes' in batch:
            np.testing.assert_allclose(batch['classes'][row], probs, atol=1e-6)


def picture_of(name, text):
    """The picture that a text of vl_official is about."""
    number = next((w.strip('?.') for w in text.split() if w.strip('?.').isdigit()), '')
    return {'vqa2': lambda: vl_official.coco('train2014', int(number)),
            'vqa2_masked': lambda: vl_official.coco('train2014', int(number)),
            'vizwiz': lambda: f'VizWiz_train_{int(number):012d}', 'snli_ve': lambda: number, 'mm_imdb': lambda: number,
            'coco_captions': lambda: vl_official.coco('val2014', int(number)),
            'conceptual_captions': lambda: str(vl_official.zlib.crc32(text.split()[-1].encode()))}[name]()


@pytest.mark.parametrize('name', TASKS)
def test_from_files_to_a_batch_of_a_task(tmp_path, name):
    folder = prepare(tmp_path, name)
    assert folder == tmp_path / 'data' / name / '1.0.0' and not prepared.remarks(folder)
    data, (output, classes, sizes) = read(tmp_path, name), TASKS[name]
    splits = vl.task(data, words.build('basic'), 12)
    assert splits.task.output == output and splits.task.classes == classes
    assert (len(splits.train), len(splits.validation), len(splits.test)) == sizes
    batch = splits.train.take(np.arange(len(splits.train)))
    assert batch['region_mask'].all() and batch['tokens'].shape == (sizes[0], 12)
    same_regions(batch, lambda i: picture_of(name, data.text[i]))
    index = {c: i for i, c in enumerate(classes)}
    np.testing.assert_array_equal(batch['y'], vl.targets([data.answers[i] for i in batch['id']], output, classes, ''))
    if name == 'vqa2':  # seven of ten annotators say one thing, four the other: 10 answers in turns of three
        said = data.answers[int(batch['id'][0])]
        assert sorted(batch['y'][0]) == pytest.approx([0, 0, 0, 0, 1, 1]) and len(said) == 10
        assert batch['y'][0, index[said[1]]] == batch['y'][0, index[said[0]]] == 1
    if name == 'snli_ve':
        assert [classes[k] for k in batch['y']] == [data.text[i].split()[-1][:-1] for i in batch['id']]


@pytest.mark.parametrize('name', PRETRAINING)
def test_from_files_to_a_batch_of_pretraining(tmp_path, name):
    prepare(tmp_path, name)
    data = read(tmp_path, name)
    train, validation = vl.pretraining(data, words.build('basic'), 12)
    assert (len(train), len(validation)) == PRETRAINING[name]
    batch = train.take(np.arange(len(train)))
    tens = 10 if name == 'vqa2_masked' else 1
    assert batch['classes'].shape[-1] == 1601 and batch['segments'].any() == (tens == 10)
    same_regions(batch, lambda i: picture_of(name, data.text[i // tens]))


def test_held_out_pictures(tmp_path):
    """Both sets hold the same pictures back, each picture is in one split, and test is not there to pretrain on."""
    prepare(tmp_path, 'vqa2'), prepare(tmp_path, 'vqa2_masked')
    task, masked = read(tmp_path, 'vqa2'), read(tmp_path, 'vqa2_masked')
    texts = lambda d, s: {t for t, k in zip(d.text, d.split) if k == s}  # noqa: E731
    assert texts(masked, 'validation') == texts(task, 'validation') and not texts(masked, 'test')
    assert texts(masked, 'train') == texts(task, 'train') == {f'What is {n} {k}?' for n in range(1, 5) for k in (0, 1)}
    held = texts(task, 'validation') | texts(task, 'test')
    assert held == {f'What is {n} {k}?' for n in range(101, 109) for k in (0, 1)} and texts(task, 'test')
    assert len({t.split()[2] for t in texts(task, 'test')} & {t.split()[2] for t in texts(task, 'validation')}) == 0


def test_records(tmp_path):
    """Records of a picture follow one another, its regions are in the first of them."""
    folder = prepare(tmp_path, 'vqa2')
    data = tfds.builder_from_directory(folder).as_data_source(split='train')
    rows = [(r['image_id'].decode(), len(r['features']), len(r['boxes']), len(r['class_probs']), r['width'])
            for r in (data[i] for i in range(len(data)))]
    assert rows == [(vl_official.coco('train2014', n), *(3 * (k,)), w) for n in range(1, 5)
                    for k, w in ((3, vl_official.WIDTH), (0, 0))]


def test_vocabularies(tmp_path):
    folder = files(tmp_path, 'vqa2')
    (folder / 'annotations' / 'answers_vqa.txt').write_text('<unk>\nno\nblue\nyes\n')
    prepare(tmp_path, 'vqa2', folder)
    data = read(tmp_path, 'vqa2')
    assert data.vocabulary == ('<unk>', 'no', 'blue', 'yes')
    (folder / 'annotations' / 'answers_other.txt').write_text('a\n')
    with pytest.raises(UserError, match='several vocabularies: answers_other.txt, answers_vqa.txt; keep one'):
        prepare(tmp_path / 'b', 'vqa2', folder)
    facts = tmp_path / 'data' / 'vqa2' / '1.0.0' / prepared.FACTS
    facts.write_text(json.dumps({'plan': {'classes': [1]}}))
    vl_sets._CACHE.clear()
    with pytest.raises(UserError, match='prepared.json: no list of texts plan.classes'):
        read(tmp_path, 'vqa2')


def test_the_most_frequent_answers_and_genres(tmp_path, monkeypatch):
    monkeypatch.setitem(vision_language.ANSWERS, 'vqa2', 3)
    monkeypatch.setattr(vision_language, 'GENRES', 2)
    prepare(tmp_path, 'vqa2'), prepare(tmp_path, 'mm_imdb')
    assert read(tmp_path, 'vqa2').vocabulary == ('<unk>', '2', 'red')
    films = read(tmp_path, 'mm_imdb')
    assert films.vocabulary == ('<unk>', 'Comedy', 'Drama') and films.answers[2] == ('Drama', 'Comedy')


def test_pictures_without_features(tmp_path):
    folder = files(tmp_path, 'conceptual_captions')
    names = vl_official.cc_tsv(folder / 'annotations', lost=2)
    vl_official.tsv(folder / 'features' / 'x.tsv', names)
    notes = prepared.remarks(prepare(tmp_path, 'conceptual_captions', folder))
    assert notes == ['train: 2 of 6 texts left out, as their pictures have no features']
    assert len(read(tmp_path, 'conceptual_captions').text) == 6
    vl_official.tsv(folder / 'features' / 'x.tsv', ['1', '2'])
    with pytest.raises(UserError, match="the pictures of 6 of 6 texts are not there, e.g. '.*is called e.g. '1', '2'"):
        prepare(tmp_path / 'b', 'conceptual_captions', folder)
    folder = files(tmp_path, 'coco_captions')  # where nothing may be missing
    vl_official.tsv(folder / 'features' / 'x.tsv', [vl_official.coco('val2014', n) for n in (1, 2, 4, 5)])
    with pytest.raises(UserError, match="the pictures of 2 of 6 texts are not there, e.g. 'COCO_val2014_0*3'"):
        prepare(tmp_path / 'b', 'coco_captions', folder)
    assert not (tmp_path / 'b').exists()


def cut(path, n):
    path.write_bytes(path.read_bytes()[:-n])


def other_detector(folder, **changes):
    vl_official.mmf_npy(folder / 'features' / 'npy', ['0000003'], **changes)


@pytest.mark.parametrize('name, damage, message', [
    ('vqa2', lambda p: cut(p / 'features' / 'trainval.lmdb' / 'data.mdb', 9000), 'trainval.lmdb: not an LMDB'),
    ('vqa2', lambda p: cut(p / 'annotations' / 'v2_mscoco_val2014_annotations.json', 9), 'val2014_.*: the file'),
    ('coco_captions', lambda p: cut(p / 'features' / 'x.tsv', 900), "x.tsv, line 5: the line does not end"),
    ('vizwiz', lambda p: cut(p / 'features' / 'x.h5', 900), 'x.h5: not an HDF5 file'),
    ('mm_imdb', lambda p: cut(p / 'features' / 'npy' / '0000003.npy', 4), '0000003.npy: not an .npy file'),
    ('mm_imdb', lambda p: cut(p / 'features' / 'npy' / '0000004_info.npy', 4), '0000004_info.npy: not an .npy file'),
    ('mm_imdb', lambda p: other_detector(p, cls_prob=None), "'0000003' has boxes, features, height, width, but"),
    ('mm_imdb', lambda p: other_detector(p, cls_prob=np.full((3, 4), .25)), "'class_probs' of .*'0000003' are 4 wide"),
    ('snli_ve', lambda p: (p / 'annotations' / 'snli_ve_test.jsonl').write_bytes(
        (p / 'annotations' / 'snli_ve_dev.jsonl').read_bytes()), "'20' is in 'test' and in 'validation'"),
    ('snli_ve', lambda p: (p / 'annotations' / 'snli_ve_dev.jsonl').unlink(), 'snli_ve_dev.jsonl: no such file')])
def test_damage_leaves_nothing_behind(tmp_path, name, damage, message):
    folder = files(tmp_path, name)
    damage(folder)
    with pytest.raises(UserError, match=message):
        prepare(tmp_path, name, folder)
    assert not (tmp_path / 'data').exists()


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    """Pictures of finished files are not read again, and the result is the same to the byte."""
    monkeypatch.setattr(vision_language, 'SHARD', 45_000)  # four questions about two pictures
    folder = files(tmp_path, 'vqa2')
    whole = prepare(tmp_path / 'whole', 'vqa2', folder)
    content = lambda p: {f.name: f.read_bytes() for f in p.iterdir()}  # noqa: E731
    assert len(list(whole.glob('*train*'))) > 1
    read, seen = detector_files.Detector.read, []

    def stops(self, place):
        seen.append(place)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return read(self, place)

    monkeypatch.setattr(detector_files.Detector, 'read', stops)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, 'vqa2', folder)
    assert not (tmp_path / 'data' / 'vqa2' / '1.0.0').exists()
    before = len(seen)
    assert content(prepare(tmp_path, 'vqa2', folder)) == content(whole)
    assert len(seen) - before < 1 + 12  # the first picture, which tells the shapes, and not all twelve


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(vl_official, 'F', 4096)
    folder = tmp_path / 'm'
    pictures = (('train2014', range(1, 201)), ('val2014', range(301, 311)))
    names = vl_official.vqa2_json(folder / 'annotations', pictures, 1)
    vl_official.tsv(folder / 'features' / 'x.tsv', names, 'bottom-up')
    task = prepared.tasks()['vqa2']
    tracemalloc.start()
    prepared.prepare(task, folder, tmp_path / 'data', False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (folder / 'features' / 'x.tsv').stat().st_size > 10 * 2 ** 20 > 5 * peak


def test_a_wrong_or_unnamed_set(tmp_path):
    with pytest.raises(UserError, match='has no annotations, features\nvqa2: VQA 2[^!]*v2_OpenEnded'):
        prepare(tmp_path, 'vqa2', tmp_path)
    task = prepared.tasks()['snli_ve']
    assert 'finetune.tasks=tfds:snli_ve --config.sets.data_dir=D' in prepared.use(task, 'D')
    assert 'pretrain.data=tfds:vqa2_masked' in prepared.use(prepared.tasks()['vqa2_masked'], 'D')
