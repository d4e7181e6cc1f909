"""What the commands share: reading the command line, starting JAX, turning errors into messages and exit codes."""
from __future__ import annotations

import ctypes
import os
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from fipjax.errors import Interrupted, UserError
from fipjax.overrides import split_argv

WRONG_INPUT, TERMINATED = 2, 143  # exit codes; 143 = 128 + SIGTERM, as the shell reports it


def start(main: Callable[[list[tuple[str, str]]], int | None]) -> None:
    """Runs a command and exits.

    Args:
      main: gets the overrides [(key, text)] given as --config.KEY=VALUE; its return value is the exit code.

    Exit codes: 0 done; 2 wrong input, with one message and no traceback; 143 stopped by SIGTERM and saved.
    """
    overrides: list[tuple[str, str]] = []

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest, found = split_argv(argv)
            overrides.extend(found)
            extra = flags.FLAGS(rest)[1:]
            if extra:
                raise UserError(f'unexpected argument {extra[0]!r}; options start with --')
        except (UserError, flags.Error) as e:
            _fail(e)
        return rest[:1]

    def body(_):
        if not flags.FLAGS['verbosity'].present:
            logging.set_verbosity(logging.WARNING)  # libraries report fonts and absent TPUs at level info
        try:
            prepare_jax()
            sys.exit(main(overrides))
        except UserError as e:
            _fail(e)
        except Interrupted as e:
            print(e, file=sys.stderr)
            sys.exit(TERMINATED)

    app.run(body, flags_parser=parse)


def say(words: str) -> None:
    """What a command tells besides its results, on standard error."""
    print(words, file=sys.stderr, flush=True)


def _fail(error):
    print(f'error: {error}', file=sys.stderr)
    sys.exit(WRONG_INPUT)


M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h


def keep_memory() -> None:
    """Lets malloc keep what a step gives back, where the C library is glibc and MALLOC_ARENA_MAX is not set.

    XLA for CPUs takes a program's temporary memory anew for each call. Beyond 32 MiB glibc maps fresh pages every
    time, and beyond 64 MiB it does so in every thread but the first, whatever its thresholds are, since the arenas of
    the others cannot grow further; touching the pages has taken up to a third of a step (benchmarks/memory.py).
    So: one arena, no mappings of their own, nothing given back.
    """
    if 'MALLOC_ARENA_MAX' not in os.environ:
        for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            _glibc('mallopt', option, value)


def release_memory() -> None:
    """Gives memory that is free back to the system, where the C library is glibc.

    For after jax.clear_caches(): what compiling took is freed then but stays in the process, hundreds of MiB a program.
    """
    _glibc('malloc_trim', 0)


def _glibc(name, *given):
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # another C library
        return
    function(*given)


def prepare_jax() -> None:
    """Keeps compiled programs on disk for the next start, and freed memory in the process; joins the other processes if
    FIPJAX_DISTRIBUTED is set.

    Environment: JAX_COMPILATION_CACHE_DIR is where the programs go (default ~/.cache/fipjax/xla). FIPJAX_DISTRIBUTED=1
    calls jax.distributed.initialize(), which finds its peers by itself on TPU pods, Slurm and Open MPI.
    """
    import jax
    keep_memory()
    if not os.environ.get('JAX_COMPILATION_CACHE_DIR'):
        jax.config.update('jax_compilation_cache_dir', str(pathlib.Path.home() / '.cache' / 'fipjax' / 'xla'))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
    if os.environ.get('FIPJAX_DISTRIBUTED') == '1':
        jax.distributed.initialize()
