"""Small files of the layouts of RadioML 2016.10a, RadioML 2018.01A and SigMF."""
import json
import pickle

import h5py
import numpy as np


def frames(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def write_2016(path, changes=None):
    """As RML2016.10a_dict.pkl: {(modulation, SNR): float32 [n, 2, 128]}, here 3 x 2 keys of 12 frames."""
    content = {(m, snr): frames(12, 2, 128, seed=10 * i + snr) for i, m in enumerate(('QPSK', '8PSK', 'AM-DSB'))
               for snr in (0, 18)}
    content.update(changes or {})
    path.write_bytes(pickle.dumps({k: v for k, v in content.items() if v is not None}, 2))
    return path, content


def write_2018(path, **changes):
    """As GOLD_XYZ_OSC.0001_1024.hdf5: X, Y one-hot, Z; here 96 frames of 1024, four of each class."""
    label, n = np.repeat(np.arange(24), 4), 96
    content = {'X': frames(n, 1024, 2), 'Y': np.eye(24, dtype=np.int64)[label],
               'Z': np.tile([[-20], [30]], (n // 2, 1))}
    content.update(changes)
    with h5py.File(path, 'w') as f:
        for k, v in content.items():
            if v is not None:
                f[k] = v
    return path, content


def write_sigmf(folder, datatype='cf32_le', annotations=None, samples=None, name='a', **changes):
    folder.mkdir(exist_ok=True)
    x = np.arange(4000, dtype=np.float32).reshape(-1, 2) / 4000 if samples is None else samples
    (folder / f'{name}.sigmf-data').write_bytes(x.tobytes())
    notes = annotations or [{'core:label': 'LTE', 'core:sample_start': 10, 'core:sample_count': 300, 'snr_db': 5},
                            {'core:label': 'WiFi', 'core:sample_start': 400, 'core:sample_count': 700},
                            {'core:comment': 'no label', 'core:sample_start': 0, 'core:sample_count': 2000}]
    meta = {'global': {'core:datatype': datatype, 'core:version': '1.0.0'}, 'captures': [], 'annotations': notes}
    (folder / f'{name}.sigmf-meta').write_text(json.dumps({**meta, **changes}))
    return folder, x
