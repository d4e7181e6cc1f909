"""Tiny published vision-language files in exactly their layouts, for tests of their readers."""
import base64
import json
import pickle
import zlib

import h5py
import numpy as np
from lmdb_writer import lmdb

WIDTH, HEIGHT, F, C = 64, 48, 6, 1601
WORDS = ('yes', 'no', '2', 'red', 'unanswerable')


def regions(name, n=3, classes=C):
    """Features, boxes (absolute) and class distributions of a picture; the same for a name always."""
    rng = np.random.default_rng(zlib.crc32(str(name).encode()))
    low = rng.uniform(0, 0.5, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (n, 2))], 1) * ([WIDTH, HEIGHT] * 2)
    scores = rng.exponential(size=(n, classes)) ** 4
    return (rng.normal(size=(n, F)).astype(np.float32), boxes.astype(np.float32),
            (scores / scores.sum(1, keepdims=True)).astype(np.float32))


def mmf_info(name, background=True, **changes):
    """A picture's dictionary of MMF's extraction, as its X_info.npy; without background classes 1.. alone."""
    _, boxes, probs = regions(name)
    probs = probs if background else probs[:, 1:]
    return {'bbox': boxes, 'num_boxes': len(boxes) - 1, 'objects': probs.argmax(1), 'cls_prob': probs,
            'image_width': WIDTH, 'image_height': HEIGHT, **changes}


def mmf_npy(folder, names, **changes):
    """NAME.npy with NAME_info.npy."""
    for name in names:
        path = folder / f'{name}.npy'
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, regions(name)[0])
        np.save(path.with_name(f'{path.stem}_info.npy'), mmf_info(name, **changes))
    return folder


def mmf_lmdb(path, names, keys=None, **changes):
    """X.lmdb as lmdb_conversion.py writes it. keys: what it says under b'keys', by default the names."""
    values = {}
    for name in names:
        info = mmf_info(name, **changes)
        info.update(feature_path=name, features=info.pop('features', regions(name)[0]))
        values[name.encode()] = pickle.dumps(info)
    listed = [n.encode() for n in names] if keys is None else keys
    lmdb(path, {**values, b'keys': listed if isinstance(listed, bytes) else pickle.dumps(listed)})
    return path


def b64(array):
    return base64.b64encode(np.ascontiguousarray(array)).decode()


def tsv_line(name, kind='volta', **changes):
    """A line of bottom-up attention's .tsv (with cls_prob: 'vilbert'), LXMERT's, or volta's."""
    features, boxes, probs = regions(name)
    objects = probs[:, 1:].argmax(1)
    cells = {'image_id': name, 'img_id': name, 'image_w': WIDTH, 'img_w': WIDTH, 'image_h': HEIGHT, 'img_h': HEIGHT,
             'num_boxes': len(boxes), 'boxes': b64(boxes), 'features': b64(features), 'cls_prob': b64(probs),
             'objects_id': b64(objects), 'objects_conf': b64(probs[:, 1:].max(1)), 'attrs_id': b64(objects),
             'attrs_conf': b64(probs[:, 0]), 'attrs': b64(probs[:, :4]), 'classes': b64(probs), **changes}
    bottom_up = ['image_id', 'image_w', 'image_h', 'num_boxes', 'boxes', 'features']
    lxmert = ['img_id', 'img_h', 'img_w', 'objects_id', 'objects_conf', 'attrs_id', 'attrs_conf', 'num_boxes', 'boxes',
              'features']
    columns = {'bottom-up': bottom_up, 'vilbert': [*bottom_up, 'cls_prob'], 'lxmert': lxmert,
               'volta': [*lxmert, 'cls_prob', 'attrs', 'classes']}[kind]
    return '\t'.join(str(cells[c]) for c in columns) + '\r\n'


def tsv(path, names, kind='volta'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(''.join(tsv_line(name, kind) for name in names).encode())
    return path


def hdf5(path, names, probs=True):
    """A group a picture, as volta's large_tsv_to_h5.py writes it; cls_prob is not in all of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as f:
        for name in names:
            features, boxes, classes = regions(name)
            objects = classes[:, 1:].argmax(1)
            more = {'cls_prob': classes} if probs else {}
            for k, v in {'features': features, 'boxes': boxes, 'img_w': WIDTH, 'img_h': HEIGHT, 'obj_id': objects,
                         'obj_conf': classes[:, 1:].max(1), 'attr_id': objects, 'attr_conf': classes[:, 0],
                         **more}.items():
                f[f'{name}/{k}'] = v
    return path


def coco(split, number):
    return f'COCO_{split}_{number:012d}'


def vqa_answers(i):
    """Answers of ten annotators."""
    return [WORDS[(i + (k % 3 == 0)) % len(WORDS)] for k in range(10)]


def vqa2_json(folder, pictures=(('train2014', range(1, 5)), ('val2014', range(101, 109))), each=2):
    """The official questions and annotations; questions of a picture do not follow one another. Returns the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, numbers in pictures:
        asked = [{'image_id': n, 'question': f'What is {n} {k}?', 'question_id': n * 1000 + k}
                 for k in range(each) for n in numbers]
        head = {'info': {'description': 'VQA v2.0', 'version': '2.0'}, 'task_type': 'Open-Ended', 'data_type': 'mscoco',
                'license': {'name': 'CC'}, 'data_subtype': split}
        said = [{'question_type': 'what is', 'multiple_choice_answer': vqa_answers(q['image_id'])[1],
                 'answers': [{'answer': a, 'answer_confidence': 'yes', 'answer_id': i + 1}
                             for i, a in enumerate(vqa_answers(q['image_id']))],
                 'image_id': q['image_id'], 'answer_type': 'other', 'question_id': q['question_id']}
                for q in reversed(asked)]
        (folder / f'v2_OpenEnded_mscoco_{split}_questions.json').write_text(json.dumps({**head, 'questions': asked}))
        (folder / f'v2_mscoco_{split}_annotations.json').write_text(json.dumps({**head, 'annotations': said}))
    return [coco(split, n) for split, numbers in pictures for n in numbers]


def vqa_imdb(path, split, numbers, **changes):
    """MMF's imdb of questions: an object array whose element 0 describes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{'dataset_name': 'vqa2', 'version': 1}]
    rows += [{'question_id': 1000 * n, 'image_id': n, 'image_name': coco(split, n), 'feature_path': coco(split, n) +
              '.npy', 'question_str': f'What is {n}?', 'question_tokens': ['what', 'is', str(n)],
              'all_answers': vqa_answers(n), 'valid_answers': vqa_answers(n)[:7], **changes} for n in numbers]
    np.save(path, np.array(rows, dtype=object))


def coco_json(folder, pictures=(('train', 1), ('restval', 2), ('train', 3), ('val', 4), ('test', 5))):
    """Karpathy's dataset_coco.json."""
    folder.mkdir(parents=True, exist_ok=True)
    images = [{'filepath': 'val2014', 'sentids': [5 * n, 5 * n + 1], 'filename': coco('val2014', n) + '.jpg',
               'imgid': n, 'split': split, 'cocoid': n, 'sentences': [
                   {'tokens': ['a', 'cat', str(k)], 'raw': f'A cat {n} {k}.', 'imgid': n, 'sentid': 5 * n + k}
                   for k in range(2)]} for split, n in pictures]
    (folder / 'dataset_coco.json').write_text(json.dumps({'images': images, 'dataset': 'coco'}))
    return [coco('val2014', n) for _, n in pictures]


def vizwiz_json(folder, splits=(('train', 3), ('val', 8))):
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in splits:
        (folder / f'{split}.json').write_text(json.dumps([
            {'answerable': 1, 'image': f'VizWiz_{split}_{i:012d}.jpg', 'question': f'What is this {i}?',
             'answer_type': 'other', 'answers': [{'answer_confidence': 'yes', 'answer': a} for a in vqa_answers(i)]}
            for i in range(count)]))
    return [f'VizWiz_{split}_{i:012d}' for split, count in splits for i in range(count)]


def snli_ve_jsonl(folder, key='Flikr30kID'):
    folder.mkdir(parents=True, exist_ok=True)
    names, labels = [], ('entailment', 'neutral', 'contradiction')
    for split, start in (('train', 10), ('dev', 20), ('test', 30)):
        lines = []
        for n in (start, start + 1):
            names.append(str(n))
            lines += [{'annotator_labels': [label], 'captionID': f'{n}.jpg#0', 'gold_label': label,
                       'pairID': f'{n}.jpg#0r1{label[0]}', 'sentence1': 'A premise.', 'sentence2': f'Man {n} {label}.',
                       'sentence1_parse': '', key: f'{n}.jpg'} for label in labels]
        (folder / f'snli_ve_{split}.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return names


def mm_imdb_json(folder):
    """split.json and dataset/ID.json."""
    (folder / 'dataset').mkdir(parents=True, exist_ok=True)
    splits = {'train': ['0000001', '0000002', '0000003'], 'dev': ['0000004'], 'test': ['0000005']}
    (folder / 'split.json').write_text(json.dumps(splits))
    names = [n for part in splits.values() for n in part]
    for i, n in enumerate(names):
        film = {'title': n, 'genres': ['Drama', 'Comedy', 'War'][:1 + i % 3], 'plot': [f'Plot of {n}.', 'Another.'],
                'year': 1990, 'cast': [{'name': 'x'}]}
        (folder / 'dataset' / f'{n}.json').write_text(json.dumps(film))
    return names


def cc_tsv(folder, lost=0):
    """Both files; returns the names that volta gives to the pictures, without the last `lost` of training."""
    folder.mkdir(parents=True, exist_ok=True)
    urls = {'Train_GCC-training.tsv': [f'http://a/{i}.jpg' for i in range(6)],
            'Validation_GCC-1.1.0-Validation.tsv': [f'http://b/{i}.jpg' for i in range(2)]}
    for file, given in urls.items():
        (folder / file).write_text(''.join(f'caption of {u}\t{u}\n' for u in given))
    train, held = urls.values()
    return [str(zlib.crc32(u.encode())) for u in (*train[:len(train) - lost], *held)]
