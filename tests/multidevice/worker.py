"""One process of a run that several processes share, or the only one: `worker.py PROCESS PROCESSES PORT FOLDER MODES`.

Pretrains a tiny model with `train.fit` in each mode, is stopped on the way and goes on, predicts, claims a workdir.
"""
import os
import pathlib
import sys

PROCESS, PROCESSES, PORT, FOLDER = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], pathlib.Path(sys.argv[4])
MODES = sys.argv[5].split(',')
os.environ['XLA_FLAGS'] = ' '.join(
    [f for f in os.environ.get('XLA_FLAGS', '').split() if 'device_count' not in f]
    + [f'--xla_force_host_platform_device_count={4 // PROCESSES}'])
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from absl import flags  # noqa: E402

flags.FLAGS.mark_as_parsed()
jax.config.update('jax_enable_x64', True)
if PROCESSES > 1:
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.distributed.initialize(f'localhost:{PORT}', PROCESSES, PROCESS)

import tiny  # noqa: E402

from fipjax import train, workdir  # noqa: E402
from fipjax.data import pipeline  # noqa: E402
from fipjax.data.sources import ArraySource  # noqa: E402
from fipjax.errors import Interrupted  # noqa: E402
from fipjax.parallel import Parallel  # noqa: E402
from fipjax.writer import MetricsWriter  # noqa: E402


def source(n, seed):
    rng = np.random.default_rng(seed)
    fields = {'sequence': rng.normal(size=(n, 32, 2)).astype(np.float32), 'sequence_present': rng.random(n) < 0.8}
    return ArraySource({'sequence': tiny.SEQUENCE}, fields)


def in_float64(algorithm):
    to = lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x  # noqa: E731
    return algorithm._replace(init=lambda key: jax.tree.map(to, algorithm.init(key)))


def run(mode, folder, algorithm):
    """Trains in one mode; the result and the predictions for the 10 validation examples."""
    share = dict(process=jax.process_index(), processes=jax.process_count())
    parallel, asked = Parallel(mode), []
    stage = train.Stage('pretrain', algorithm, source(40, 0), source(10, 1), 23, 8, 9, 5, '', lambda step: 0.1)

    def fit(stop_after=None):
        def stop():
            asked.append(1)
            # Only the last process is told to stop, and the others must stop with it.
            return stop_after is not None and PROCESS == PROCESSES - 1 and len(asked) > stop_after
        return train.fit(stage, parallel, train.Settings(4, 7, 2, 8, 1), folder / 'checkpoints' / 'pretrain',
                         MetricsWriter(folder / 'metrics.jsonl'), stop, False)

    if PROCESSES > 1:
        try:
            fit(stop_after=1)
        except Interrupted as e:
            print(e)
        else:
            raise AssertionError('was not stopped')
    result = fit()
    model = tiny.model(('sequence',), ())
    codes = parallel.rows(lambda p, b: model.tokenize(p, 'sequence', b['inputs']['sequence']).mean(1))
    params = parallel.place_state(result.params)
    return result, np.concatenate([codes(params, b) for b in pipeline.evaluation(source(10, 1), 8, **share)])[:10]


def main():
    assert jax.device_count() == 4 and jax.process_count() == PROCESSES
    algorithm = in_float64(tiny.pretraining(tiny.PLAIN._replace(target='sequence'), ('sequence',),
                                            optimizer=optax.adam(1e-3)))
    for mode in MODES:
        with workdir.claim(FOLDER / mode, tiny.config(parallel__mode=mode)) as path:
            result, rows = run(mode, path, algorithm)
        flat = {jax.tree_util.keystr(k): v for k, v in jax.tree_util.tree_leaves_with_path(result.params)}
        np.savez(FOLDER / f'{mode}-{PROCESS}.npz', rows=rows, loss=result.validation['loss'], **flat)


if __name__ == '__main__':
    main()
