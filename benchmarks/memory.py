"""What keeping freed memory in the process saves: milliseconds of a step with glibc's defaults and with fipjax's.

Command: python benchmarks/memory.py [--config=configs/fip/constellation.py:uniform] [--batch=64,128,256] [--rounds=3]

Each measurement is a process of its own, in turn with glibc's default thresholds and with those of fipjax.launch; CPU
time of the process, median over steps. `MiB` is the temporary memory of the compiled step. CPU only: accelerators have
allocators of their own.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time


def measure(config: str, batch: int, thresholds: str) -> None:
    """Prints milliseconds a step and bytes of temporary memory."""
    import jax

    from fipjax import config as config_lib
    from fipjax import launch, parallel
    from fipjax.experiments import fip
    if thresholds == 'glibc':
        launch.keep_memory = lambda: None
    launch.prepare_jax()
    c = config_lib.load(config, None, [('pretrain.batch_size', str(batch))])
    parts = fip.pretraining(c, estimates=False)
    step = jax.jit(lambda state, given: parts.algorithm.step(state, given, psum=parallel.identity))
    given = fip.empty_batch(parts.modalities, batch)
    state = parts.algorithm.init(jax.random.key(0))
    size = step.lower(state, given).compile().memory_analysis().temp_size_in_bytes
    state, _ = step(state, given)
    seconds = []
    for _ in range(20):
        began = time.process_time()
        state, metrics = step(state, given)
        jax.block_until_ready(metrics)
        seconds.append(time.process_time() - began)
    print(statistics.median(seconds) * 1e3, size)


def main() -> None:
    """Prints one row a batch size."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument('--config', default='configs/fip/constellation.py:uniform')
    arguments.add_argument('--batch', default='64,128,256')
    arguments.add_argument('--rounds', type=int, default=3)
    arguments.add_argument('--measure', help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure:
        return measure(given.config, int(given.batch), given.measure)
    environment = {k: v for k, v in os.environ.items() if not k.startswith('MALLOC_')}
    print(f'{"batch":>6} {"MiB":>6} {"glibc ms":>9} {"fipjax ms":>9} {"ratio":>6}')
    for batch in given.batch.split(','):
        found = {}
        for _ in range(given.rounds):
            for name in ('glibc', 'fipjax'):
                command = [sys.executable, __file__, f'--config={given.config}', f'--batch={batch}',
                           f'--measure={name}']
                out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                ms, size = out.split()[-2:]
                found.setdefault(name, []).append(float(ms))
        glibc, ours = (statistics.median(found[k]) for k in ('glibc', 'fipjax'))
        print(f'{batch:>6} {int(size) / 2 ** 20:6.0f} {glibc:9.1f} {ours:9.1f} {glibc / ours:6.2f}', flush=True)


if __name__ == '__main__':
    main()
