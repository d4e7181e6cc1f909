"""The command: one config, one experiment.

  python -m fipjax.main --config=configs/fip/quick.py --workdir=runs/fip_quick
  python -m fipjax.main --config=configs/fip/constellation.py:uniform --workdir=runs/uniform --config.seed=1

The same command again goes on where it was stopped or killed. A config that names a comparison (`compare.vary`) runs
all its variants and seeds. Any key of the config can be set by --config.KEY=VALUE; `--config.help` lists them.
`--config.plan=True` says what the config would cost and runs nothing; it needs no --workdir.
"""
from __future__ import annotations

from absl import flags

from fipjax import config as config_lib
from fipjax import launch
from fipjax.errors import UserError
from fipjax.overrides import get, keys

flags.DEFINE_string('config', None, 'Config file, FILE.py or FILE.py:VARIANT, e.g. configs/fip/quick.py. Its keys are '
                    'set by --config.KEY=VALUE.')
flags.DEFINE_string('workdir', None, 'Folder of the run: config.json, metrics.jsonl, result.json, checkpoints/, '
                    'report.html. Made if absent; a run that is there already goes on.')


def main(overrides: list[tuple[str, str]]) -> int:
    """Loads the config, runs what it asks for, prints the table and the path of the report; returns the exit code."""
    given = flags.FLAGS
    if not given.config:
        raise UserError('--config is missing, e.g. --config=configs/fip/quick.py')
    if any(key == 'help' for key, _ in overrides):
        config = config_lib.load(given.config, None, (), complete=False)
        print('\n'.join(f'--config.{k}={get(config, k)}' for k in keys(config)))
        if config.wing == 'fip' and not len(config.data.modalities):
            print('and, NAME being a modality of the data: --config.data.modalities.NAME.{kind,shape,patch,vocab}=, '
                  '--config.pretrain.fip.{mask_ratio,loss_weight,decoder_depth,attention_bias}.NAME=')
        return 0
    said = []
    config = config_lib.load(given.config, None, overrides, said.append)
    if config.get('plan'):
        from fipjax import plan
        print(plan.report(config, plan.costs(config, launch.say)))
        return 0
    if not given.workdir:
        raise UserError('--workdir is missing, e.g. --workdir=runs/fip_quick')
    # Imported late, so that a wrong command line is answered before the heavy libraries are there.
    if config.compare.vary:
        from fipjax import compare
        return compare.run(given.config, None, overrides, given.workdir, [config.compare.vary],
                           config.compare.seeds or (config.seed,), config.compare.baseline or None)
    for words in said:
        launch.say(words)
    from fipjax import experiment
    from fipjax.analysis import runs, table
    experiment.run(config, given.workdir, progress=True)
    run = runs.load_run(given.workdir)
    print(table.markdown(table.rows([run])))
    print(f'\nreport: {run.workdir / "report.html"}')
    return 0


def run() -> None:
    """Entry point of the console script `fipjax`."""
    launch.start(main)


if __name__ == '__main__':
    run()
