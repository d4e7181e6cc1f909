"""Small files in exactly the layouts of the published benchmarks, and what is to be read from them.

WRITERS: task -> function of (folder) that writes its files and returns {split: {feature: array [n, ...]}}, computed
from what was written and not by the readers.
"""
import csv
import gzip
import io
import json
import pickle
import struct
import tarfile

import h5py
import numpy as np
from scipy.io import savemat, wavfile
from sklearn.model_selection import train_test_split


def rng(seed=0):
    return np.random.default_rng(seed)


def ninapro(folder):
    out = {}
    for split, name, n in (('train', 'train', 7), ('validation', 'val', 3), ('test', 'test', 4)):
        x, y = rng(n).normal(size=(n, 52, 16)), rng(n).integers(0, 18, n)
        np.save(folder / f'ninapro_{name}.npy', x)
        np.save(folder / f'label_{name}.npy', y.astype(np.float64))
        out[split] = {'x': x.transpose(0, 2, 1)[..., None].astype(np.float32), 'y': y}
    return out


def satellite(folder):
    data = {}
    for name, n in (('train', 9), ('test', 3)):
        x, y = rng(n).normal(size=(n, 46)), rng(n).integers(1, 25, n)
        np.save(folder / f'satellite_{name}.npy', {'data': x, 'label': y}, allow_pickle=True)
        data[name] = x[..., None].astype(np.float32), y - 1
    (x, y), test = data['train'], data['test']
    return {s: dict(zip('xy', part)) for s, part in
            {'train': (x[:6], y[:6]), 'validation': (x[6:], y[6:]), 'test': test}.items()}


def deepsea(folder, compressed=False):
    arrays, out = {}, {}
    for split, name, n in (('train', 'train', 6), ('validation', 'val', 2), ('test', 'test', 5)):
        x = np.eye(4, dtype=np.uint8)[rng(n).integers(0, 4, (n, 1000))]
        y = rng(n).integers(0, 2, (n, 36)).astype(np.uint8)
        arrays |= {f'x_{name}': x, f'y_{name}': y}
        out[split] = {'x': x, 'y': y}
    (np.savez_compressed if compressed else np.savez)(folder / 'deepsea_filtered.npz', **arrays)
    return out


def spherical(folder):
    held = {name: {'images': rng(n).integers(0, 256, (n, 3, 60, 60)).astype(np.uint8),
                   'labels': rng(n).integers(0, 100, n)} for name, n in (('train', 10), ('test', 3))}
    with gzip.open(folder / 's2_cifar100.gz', 'wb') as f:
        pickle.dump(held, f)
    return _last_fifth({k: (v['images'].transpose(0, 2, 3, 1), v['labels']) for k, v in held.items()})


def cifar100(folder):
    parts, members = {}, {'meta': {'fine_label_names': [f'thing {k}' for k in range(100)], 'coarse_label_names': []}}
    for name, n in (('train', 10), ('test', 4)):
        x, y = rng(n).integers(0, 256, (n, 3, 32, 32)).astype(np.uint8), rng(n).integers(0, 100, n)
        members[name] = {'filenames': [f'{i}.png' for i in range(n)], 'batch_label': name, 'fine_labels': y.tolist(),
                         'coarse_labels': [0] * n, 'data': x.reshape(n, -1)}
        parts[name] = x.transpose(0, 2, 3, 1), y
    write_tar(folder, {k: pickle.dumps(v, 2) for k, v in members.items()})
    return _last_fifth(parts)


def write_tar(folder, members):
    with tarfile.open(folder / 'cifar-100-python.tar.gz', 'w:gz') as tar:
        for name, raw in members.items():
            info = tarfile.TarInfo(f'cifar-100-python/{name}')
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def _last_fifth(parts):
    (x, y), test = parts['train'], parts['test']
    n = len(x) * 4 // 5
    return {s: dict(zip('xy', part)) for s, part in
            {'train': (x[:n], y[:n]), 'validation': (x[n:], y[n:]), 'test': test}.items()}


def darcy(folder, version=5, compressed=True, size=11):
    held = []
    for k in (1, 2):
        shape = (1024, size, size)
        arrays = {'coeff': rng(k).choice([3.0, 12.0], shape), 'sol': rng(k + 5).random(shape)}
        path = folder / f'piececonst_r421_N1024_smooth{k}.mat'
        if version == 5:
            savemat(path, {'Kcoeff': np.zeros((2, 2)), **arrays}, do_compression=compressed)
        else:
            with h5py.File(path, 'w', userblock_size=512) as f:
                for name, a in arrays.items():
                    f[name] = a.T  # MATLAB's order
        held.append([arrays[name][:, ::5, ::5].astype(np.float32) for name in ('coeff', 'sol')])
    out, n = {}, len(range(0, size, 5))
    for split, k, rows in (('train', 0, slice(900)), ('validation', 0, slice(900, 1000)), ('test', 1, slice(100))):
        x = np.empty((len(held[k][0][rows]), n, n, 3), np.float32)
        x[..., 0], x[..., 1], x[..., 2] = held[k][0][rows], np.linspace(0, 1, n)[None], np.linspace(0, 1, n)[:, None]
        out[split] = {'x': x, 'y': held[k][1][rows][..., None]}
    return out


def ecg(folder):
    labels = np.array(list('NAO~') * 5)
    signals = [rng(i).integers(-500, 500, 2100 + 7 * i).astype(np.int16) for i in range(20)]
    data = np.empty(20, object)
    data[:] = signals
    with (folder / 'challenge2017.pkl').open('wb') as f:
        pickle.dump({'data': data, 'label': labels}, f)
    rest, held_out = train_test_split(np.arange(20), test_size=0.2, random_state=0)
    validation, test = train_test_split(held_out, test_size=0.5, random_state=0)
    out, strides = {}, {'N': 500, 'A': 83, 'O': 250, '~': 25}
    for split, ids in (('train', rest), ('validation', validation), ('test', test)):
        rows = [(((signals[i] - signals[i].mean()) / signals[i].std())[j:j + 1000], 'NAO~'.index(labels[i]), f'{i:05d}')
                for i in ids for j in range(0, len(signals[i]) - 1000, strides[labels[i]])]
        x, y, group = zip(*rows)
        out[split] = {'x': np.array(x, np.float32)[..., None], 'y': np.array(y), 'group': np.array(group)}
    return out


def cosmic(folder):
    out, files = {}, {}
    for name, n in (('train', 10), ('test', 3)):
        files[name] = []
        for i in range(n):
            image, mask, ignore = rng(i).normal(size=(200, 196)), *rng(i).integers(0, 2, (2, 200, 196))
            array = np.array([image, mask, ignore][:2 + i % 2], np.float32)
            place = folder / 'cosmic' / 'data' / f'npy_{name}' / 'f435w' / f'100{i // 4}' / '2'
            place.mkdir(parents=True, exist_ok=True)
            np.save(place / f'{i}.npy', array)
            files[name].append((f'./somewhere/cosmic/data/npy_{name}/f435w/100{i // 4}/2/{i}.npy', array))
        names = np.array([p for p, _ in files[name]], object if name == 'test' else None)
        np.save(folder / 'cosmic' / f'{name}_dirs.npy', names)
    for split, part in (('train', files['train'][:9]), ('validation', files['train'][9:]), ('test', files['test'])):
        cut = [a[:, 64:192, 64:192, None] for _, a in part]
        out[split] = {'x': np.array([a[0] for a in cut]), 'y': np.array([a[1] for a in cut]),
                      'ignore': np.array([a[2] if len(a) > 2 else np.zeros_like(a[1]) for a in cut]),
                      'group': np.array(['/'.join(p.split('/')[-3:-1]) for p, _ in part])}
    return out


def psicov(folder, size=24):
    """`size` is 512 in truth."""
    out, proteins = {}, {}
    for name, ids in (('deepcov', ('1abcA', '2abcB', '3abcC')), ('psicov', ('4abc', '5abc'))):
        for k in ('features', 'distance'):
            (folder / 'protein' / name / k).mkdir(parents=True)
        (folder / 'protein' / f'{name}.lst').write_text(''.join(f'{i} 99\n' for i in ids))
        for i, protein in enumerate(ids):
            n, r = 6 + i, rng(i)
            held = {'seq': 'ACDEFGHIKL'[:n], 'ss': r.random((3, n)), 'pssm': r.random((n, 22)), 'sa': r.random(n),
                    'entropy': r.random(n), **{k: r.random((n, n)) for k in ('ccmpred', 'freecon', 'potential')}}
            with (folder / 'protein' / name / 'features' / f'{protein}.pkl').open('wb') as f:
                pickle.dump(held, f)
            d = 30 * r.random((n, n))
            both = np.empty(3, object)
            both[:] = [n, held['seq'], d]
            np.save(folder / 'protein' / name / 'distance' / f'{protein}-cb.npy', both, allow_pickle=True)
            x, y = np.zeros((size, size, 57), np.float32), np.full((size, size, 1), 100, np.float32)
            single = [*held['ss'], *held['pssm'].T, held['sa'], held['entropy']]
            d = np.maximum(d, 1)
            for q in range(n):
                d[q, q] = np.mean([d[q, p] for p in (q - 1, q + 1) if 0 <= p < n])
            for a in range(n):
                for b in range(n):
                    x[a + 5, b + 5] = [v for s in single for v in (s[b], s[a])] + [
                        held[k][a, b] for k in ('ccmpred', 'freecon', 'potential')]
                    y[a + 5, b + 5] = d[a, b]
            proteins[protein] = {'x': x, 'y': y, 'group': protein, 'residues': n}
    for split, ids in (('train', ('2abcB', '3abcC')), ('validation', ('1abcA',)), ('test', ('4abc', '5abc'))):
        out[split] = {k: np.array([proteins[i][k] for i in ids]) for k in ('x', 'y', 'group', 'residues')}
        if split != 'test':
            out[split]['y'] = np.minimum(out[split]['y'], 16)
    return out


def fsd50k(folder):
    """Two clips of two chunks each in every split; x is left to its own test."""
    chunks = folder / 'chunks'
    chunks.mkdir()
    names = {f'Sound_{k}': k for k in range(200)}
    (chunks / 'lbl_map.json').write_text(json.dumps(names))
    out = {}
    for split, name in (('train', 'tr'), ('validation', 'val'), ('test', 'eval')):
        rows = []
        for i in range(4):
            path = folder / 'wavs' / name / f'{i}.wav'
            path.parent.mkdir(parents=True, exist_ok=True)
            n = 22050 if i else 9000
            wavfile.write(path, 22050, (8000 * rng(i).normal(size=n)).clip(-3e4, 3e4).astype(np.int16))
            rows.append((f'/tmp/wavs/{name}/{i}.wav', 'Sound_3,Sound_7' if i < 2 else 'Sound_9', f'{name}{i // 2}'))
        with (chunks / f'{name}.csv').open('w', newline='') as f:
            csv.writer(f).writerows([('files', 'labels', 'ext'), *rows])
        y = np.zeros((4, 200), np.uint8)
        y[:2, [3, 7]], y[2:, 9] = 1, 1
        kept = [0, 2] if split == 'train' else range(4)
        out[split] = {'y': y[kept], 'group': np.array([rows[i][2] for i in kept])}
    return out


WRITERS = {f'nas_bench_360/{f.__name__}': f for f in (cifar100, cosmic, darcy, deepsea, ecg, fsd50k, ninapro, psicov,
                                                      satellite, spherical)}


def hostile():
    """A pickle that would make a folder."""
    return b'cos\nmkdir\n(S"hostile"\ntR.'


def hostile_npy():
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b' ' * (-(10 + len(header) + 1) % 64) + b'\n'
    return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + hostile()


def pde_times(frames, end):
    return np.linspace(0, end, frames)


def single_file(path, n=20, frames=201, points=1024, end=2.0, names=('tensor',)):
    """1D files of PDEBench: [n, t, x] float32, t-coordinate with an entry more than there are frames."""
    fields = [rng(k).normal(size=(n, frames, points)).astype(np.float32) for k, _ in enumerate(names)]
    with h5py.File(path, 'w') as f:
        for name, field in zip(names, fields):
            f[name] = field
        f['x-coordinate'] = np.linspace(0, 1, points).astype(np.float32)
        f['t-coordinate'] = np.append(pde_times(frames, end), end * frames / (frames - 1)).astype(np.float32)
    return np.stack(fields, -1)


def seeded_file(path, n=20, shape=(101, 1024, 1), end=500.0):
    """Files with a group for each seed, compressed by lzf."""
    data = rng().normal(size=(n, *shape)).astype(np.float32)
    with h5py.File(path, 'w') as f:
        for i in rng().permutation(n):
            f.create_dataset(f'{i:04d}/data', data=data[i], compression='lzf')
            f.create_dataset(f'{i:04d}/grid/t', data=pde_times(shape[0], end).astype(np.float32), compression='lzf')
            f.create_dataset(f'{i:04d}/grid/x', data=np.linspace(0, 1, shape[1]).astype(np.float32), compression='lzf')
            f[f'{i:04d}'].attrs['config'] = 'sim: {}'
    return data


def darcy_2d(path, n=20, points=128):
    nu, u = rng(1).random((n, points, points), np.float32), rng(2).random((n, 1, points, points), np.float32)
    with h5py.File(path, 'w') as f:
        f['nu'], f['tensor'] = nu, u
        f['x-coordinate'] = f['y-coordinate'] = np.linspace(0, 1, points).astype(np.float32)
        f.attrs['beta'] = 0.1
    return nu, u
