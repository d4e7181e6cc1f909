"""Published annotations: what is read of each, and how a damaged file is named."""
import json
import zlib

import numpy as np
import pytest
import vl_official
from vl_official import coco, vqa_answers

from fipjax.data import vl_annotations
from fipjax.errors import UserError


def names(texts):
    return [t.names[0] for t in texts]


def test_vqa2(tmp_path):
    vl_official.vqa2_json(tmp_path)
    found = vl_annotations.vqa2(tmp_path, 'train2014')
    # In the order of the answers; joined with the questions by their numbers.
    assert [(t.names, t.text) for t in found] == [((coco('train2014', n), str(n)), f'What is {n} {k}?')
                                                  for k in (1, 0) for n in (4, 3, 2, 1)]
    assert [t.answers for t in found[:4]] == [tuple(vqa_answers(n)) for n in (4, 3, 2, 1)]
    assert len(vl_annotations.vqa2(tmp_path, 'val2014')) == 16


def test_imdb_of_vqa2(tmp_path):
    vl_official.vqa_imdb(tmp_path / 'imdb_train2014.npy', 'train2014', [5, 6])
    found = vl_annotations.vqa2(tmp_path, 'train2014')
    assert [(t.names, t.text, t.answers) for t in found] == [
        ((coco('train2014', n), str(n)), f'What is {n}?', tuple(vqa_answers(n))) for n in (5, 6)]
    vl_official.vqa2_json(tmp_path)  # the published files come first
    assert len(vl_annotations.vqa2(tmp_path, 'train2014')) == 8


def test_an_answer_that_nobody_gave(tmp_path):
    """MMF's VizWiz has '<copy>' at the end; an annotator who said nothing is still one of ten."""
    said = [*vqa_answers(1)[:9], ' ', '<copy>']
    vl_official.vqa_imdb(tmp_path / 'imdb_train.npy', 'train2014', [1], all_answers=said)
    assert vl_annotations.vizwiz(tmp_path, 'train')[0].answers == (*vqa_answers(1)[:9], '<unk>')
    vl_official.vqa_imdb(tmp_path / 'imdb_train.npy', 'train2014', [1], all_answers=None, valid_answers=['a'])
    assert vl_annotations.vizwiz(tmp_path, 'train')[0].answers == ('a',)


def test_vizwiz(tmp_path):
    expected = vl_official.vizwiz_json(tmp_path)
    found = vl_annotations.vizwiz(tmp_path, 'train')
    assert names(found) == expected[:3] and found[1].text == 'What is this 1?'
    assert found[1].answers == tuple(vqa_answers(1)) and names(vl_annotations.vizwiz(tmp_path, 'val')) == expected[3:]


@pytest.mark.parametrize('key', vl_annotations.PICTURE)
def test_snli_ve(tmp_path, key):
    vl_official.snli_ve_jsonl(tmp_path, key)
    found = vl_annotations.snli_ve(tmp_path, 'dev')
    assert found[1] == (('20',), 'Man 20 neutral.', ('neutral',)) and len(found) == 6


def test_mm_imdb(tmp_path):
    vl_official.mm_imdb_json(tmp_path)
    found = vl_annotations.mm_imdb(tmp_path, 'train')
    assert found[2] == (('0000003',), 'Plot of 0000003.', ('Drama', 'Comedy', 'War')) and len(found) == 3
    (tmp_path / 'split.json').unlink()
    lines = [{'id': '0000007', 'plot': ['', 'One.'], 'genres': ['War', 'War'], 'img': 'x.jpg'},
             {'id': 8, 'plot': 'Two.', 'genres': []}]
    (tmp_path / 'train.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    assert vl_annotations.mm_imdb(tmp_path, 'train') == [(('0000007',), 'One.', ('War',)), (('8',), 'Two.', ())]


def test_coco(tmp_path):
    vl_official.coco_json(tmp_path)
    found = vl_annotations.coco_captions(tmp_path)
    assert {k: names(v) for k, v in found.items()} == {
        k: [coco('val2014', n) for n in v for _ in range(2)] for k, v in
        {'train': (1, 2, 3), 'validation': (4,), 'test': (5,)}.items()}
    assert found['test'][1] == ((coco('val2014', 5), '5'), 'A cat 5 1.', ())
    (tmp_path / 'dataset_coco.json').unlink()
    for split in ('train', 'val', 'test'):
        np.save(tmp_path / f'imdb_karpathy_{split}.npy', np.array([
            {'image_id': 3, 'image_path': f'{split}/COCO_val2014_000000000003.jpg', 'captions': ['a b', 'c'],
             'feature_path': 'trainval/COCO_val2014_000000000003.npy'}], object))
    assert vl_annotations.coco_captions(tmp_path)['validation'] == [
        ((coco('val2014', 3), f'trainval/{coco("val2014", 3)}', '3'), c, ()) for c in ('a b', 'c')]


def test_conceptual_captions(tmp_path):
    expected = vl_official.cc_tsv(tmp_path)
    assert names(vl_annotations.conceptual_captions(tmp_path, 'train')) == expected[:6]
    found = vl_annotations.conceptual_captions(tmp_path, 'validation')
    assert found[1].text == 'caption of http://b/1.jpg' and names(found) == expected[6:]


def test_two_addresses_with_one_crc(tmp_path, monkeypatch):
    (tmp_path / vl_annotations.CAPTIONS['train']).write_text('one\ta\ntwo\tb\nthree\tcc\nfour\tcc\n')
    monkeypatch.setattr(zlib, 'crc32', len)
    assert [t.text for t in vl_annotations.conceptual_captions(tmp_path, 'train')] == ['three', 'four']


def test_vocabulary(tmp_path):
    path = tmp_path / 'answers.txt'
    for text, expected in (('<unk>\nyes\nno\n', ('<unk>', 'yes', 'no')), ('yes\r\nno', ('<unk>', 'yes', 'no'))):
        path.write_bytes(text.encode())
        assert vl_annotations.vocabulary(path) == expected
    for text, message in ((b'yes\nno\nyes\n', "answer 3 is 'yes', and so is answer 1"),
                          (b'yes\n\nno', "answer 2 is ''"),
                          (b'yes\n<unk>', "answer 2 is '<unk>', and so is answer 0"), (b'\xff', 'not UTF-8')):
        path.write_bytes(text)
        with pytest.raises(UserError, match=f'answers.txt: {message}'):
            vl_annotations.vocabulary(path)


QUESTIONS, SAID = 'v2_OpenEnded_mscoco_train2014_questions.json', 'v2_mscoco_train2014_annotations.json'


def changed(path, change, key=None):
    """Changes the items of a JSON file in place: a function of the list of them."""
    whole = json.loads(path.read_text())
    items = whole if key is None else whole[key]
    change(items)
    path.write_text(json.dumps(whole))


@pytest.mark.parametrize('file, change, message', [
    (QUESTIONS, lambda x: x.append(x[0]), 'questions 8: the question_id 1000 is there twice'),
    (QUESTIONS, lambda x: x.pop(), 'annotations 0: the question_id 4001 is not in v2_Open'),
    (QUESTIONS, lambda x: x[0].pop('question'), "questions 0: no 'question'; found image_id, question_id"),
    (QUESTIONS, lambda x: x[1].update(question=3), "questions 1: 'question' is '3'; a text is needed"),
    (QUESTIONS, lambda x: x[1].update(question='\ud800'), "questions 1: 'question' is .*; a text is needed"),
    (QUESTIONS, lambda x: x[1].update(image_id='3'), "questions 1: 'image_id' is '3'; expected int"),
    (SAID, lambda x: x.pop(), 'train2014_annotations.json: no answers to 1 questions, e.g. question_id 1000'),
    (SAID, lambda x: x.append(x[0]), 'annotations 8: the question_id 4001 .*or it is here twice'),
    (SAID, lambda x: x[0].update(image_id=9), 'annotations 0: image_id is 9, but 4 in v2_Open'),
    (SAID, lambda x: x[0].update(answers=['yes']), "annotations 0: 'answers' is .*expected a list of .'answer': TEXT"),
    (SAID, lambda x: x[0].pop('answers'), "annotations 0: 'answers' is None"),
    (SAID, lambda x: x[0].update(answers=[]), 'annotations 0: 0 answers; expected 1 to 10'),
    (SAID, lambda x: x[0]['answers'].append({'answer': 'x'}), 'annotations 0: 11 answers; expected 1 to 10')])
def test_damaged_vqa2(tmp_path, file, change, message):
    vl_official.vqa2_json(tmp_path)
    changed(tmp_path / file, change, 'questions' if file == QUESTIONS else 'annotations')
    with pytest.raises(UserError, match=message) as found:
        vl_annotations.vqa2(tmp_path, 'train2014')
    assert 'train2014' in str(found.value)


def test_vqa2_files_that_are_cut_off_or_missing(tmp_path):
    with pytest.raises(UserError, match='no v2_OpenEnded_mscoco_val2014_questions.json, and no imdb.val2014.*npy inst'):
        vl_annotations.vqa2(tmp_path, 'val2014')
    vl_official.vqa2_json(tmp_path)
    (tmp_path / SAID).write_bytes((tmp_path / SAID).read_bytes()[:-300])
    with pytest.raises(UserError, match=f'{SAID}: the file is cut off'):
        vl_annotations.vqa2(tmp_path, 'train2014')


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was executed')",)


@pytest.mark.parametrize('objects, message', [
    ([{'image_id': 1, 'question_str': Evil()}], 'refused, it asks for .*exec'), ([{'version': 1}], 'nothing in it'),
    ([{'version': 1}, 3], 'object 1: int; expected a dictionary'),
    ([{'version': 1}, {'question_str': 'a', 'answers': ['b']}], 'object 1: none of feature_path, image_name'),
    ([{'image_id': 1, 'answers': ['b']}], "object 0: no 'question_str'"),
    ([{'image_id': 1, 'question_str': 'a'}], 'object 0: answers are None'),
    ([{'image_id': 1, 'question_str': 'a', 'answers': [3]}], r'object 0: answers are \[3\]'),
    ([{'image_id': 1, 'question_str': 'a', 'answers': ['b'], 'question_id': 7}] * 2, "question_id '7' is there twice")])
def test_damaged_imdb(tmp_path, objects, message):
    np.save(tmp_path / 'imdb_train2014.npy', np.array(objects, object))
    with pytest.raises(UserError, match=f'imdb_train2014.npy.*{message}'):
        vl_annotations.vqa2(tmp_path, 'train2014')
    np.save(tmp_path / 'imdb_train2014_b.npy', np.array(objects, object))
    with pytest.raises(UserError, match='2 files imdb.train2014.*imdb_train2014.npy, imdb_train2014_b.npy; one is'):
        vl_annotations.vqa2(tmp_path, 'train2014')


@pytest.mark.parametrize('change, message', [
    (lambda x: x.append(x[0]), "item 3: the image 'VizWiz_train_0+' is there twice"),
    (lambda x: x[2].pop('answers'), "item 2: 'answers' is None"), (lambda x: x.clear(), 'nothing in it'),
    (lambda x: x[0].pop('image'), "item 0: no 'image'"), (lambda x: x.insert(0, 3), 'item 0: int; a JSON object')])
def test_damaged_vizwiz(tmp_path, change, message):
    vl_official.vizwiz_json(tmp_path)
    changed(tmp_path / 'train.json', change)
    with pytest.raises(UserError, match=f'train.json.*{message}'):
        vl_annotations.vizwiz(tmp_path, 'train')


@pytest.mark.parametrize('change, message', [
    ({'gold_label': '-'}, "gold_label is '-'; allowed: entailment, neutral, contradiction"),
    ({'pairID': '20.jpg#0r1e'}, "the pairID '20.jpg#0r1e' is there twice"), ({'sentence2': ' '}, "'sentence2' is ' '"),
    ({'Flikr30kID': None}, 'none of Flikr30kID; found')])
def test_damaged_snli_ve(tmp_path, change, message):
    vl_official.snli_ve_jsonl(tmp_path)
    path = tmp_path / 'snli_ve_dev.jsonl'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([*lines[:1], json.dumps({**json.loads(lines[1]), **change}), *lines[2:]]))
    with pytest.raises(UserError, match=f'snli_ve_dev.jsonl, line 2: {message}'):
        vl_annotations.snli_ve(tmp_path, 'dev')
    path.write_text(lines[0] + '\n' + lines[1][:50])
    with pytest.raises(UserError, match='snli_ve_dev.jsonl, line 2: not JSON'):
        vl_annotations.snli_ve(tmp_path, 'dev')


@pytest.mark.parametrize('file, text, message', [
    ('split.json', '{"dev": ["0000001"]}', "split.json: 'train' is None; expected a list"),
    ('split.json', '{"train": ["0000001", "0000001"]}', "0000001.json: the film '0000001' is there twice"),
    ('split.json', '{"train": ["../split"]}', 'is not a name'),
    ('split.json', '[1]', 'split.json: list; a JSON object'),
    ('split.json', '{"train": ["0000099"]}', '0000099.json: not a JSON file that can be read'),
    ('dataset/0000002.json', '{"plot": ["a"], "genres": "War"}', "0000002.json: 'genres' is War; expected a list"),
    ('dataset/0000002.json', '{"plot": [], "genres": []}', "0000002.json: 'plot' is 'None'"),
    ('dataset/0000002.json', '{"plot": ["a"', '0000002.json: not a JSON file')])
def test_damaged_mm_imdb(tmp_path, file, text, message):
    vl_official.mm_imdb_json(tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=message):
        vl_annotations.mm_imdb(tmp_path, 'train')


@pytest.mark.parametrize('change, message', [
    (lambda x: x[1].update(split='rest'), "images 1: 'split' is 'rest'; allowed: train, restval, val, test"),
    (lambda x: x[1].update(cocoid=1), 'images 1: the cocoid 1 is there twice'),
    (lambda x: x[1].update(sentences=['a']), "images 1: 'caption' is 'None'"),
    (lambda x: x[1].pop('sentences'), 'images 1: captions are 0; expected a list of texts'),
    (lambda x: x[1].update(sentences=[]), r'images 1: captions are \[\]'),
    (lambda x: x.pop(), "split 'test': nothing")])
def test_damaged_coco(tmp_path, change, message):
    vl_official.coco_json(tmp_path)
    changed(tmp_path / 'dataset_coco.json', change, 'images')
    with pytest.raises(UserError, match=f'dataset_coco.json.*{message}'):
        vl_annotations.coco_captions(tmp_path)


@pytest.mark.parametrize('text, message', [
    ('a\tb\nc', 'line 2: expected a caption, a tab'), ('a\tb\tc\n', 'line 1: expected a caption'),
    (b'\xff\tb', 'line 1: expected .* in UTF-8'), (' \tb', "line 1: 'caption' is ' '"), ('', 'nothing in it')])
def test_damaged_conceptual_captions(tmp_path, text, message):
    path = tmp_path / vl_annotations.CAPTIONS['train']
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f'Train_GCC-training.tsv.*{message}'):
        vl_annotations.conceptual_captions(tmp_path, 'train')
