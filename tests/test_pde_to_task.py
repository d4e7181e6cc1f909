"""From regenerated PDEBench files to labelled data, by the names that both sides have."""
import numpy as np
import pytest

from fipjax import config as config_lib
from fipjax.data import labelled
from fipjax.data.builders import pdebench, prepared
from fipjax.data.pde import tasks, write


def test_tasks_and_files_have_the_names_that_the_reader_wants():
    assert {name: task.file_name(task.parameters) for name, task in tasks.TASKS.items()} == {
        name: w.file for name, w in pdebench.WIRINGS.items()}


@pytest.mark.parametrize('name, parameters, shape, dtype', [
    ('advection', {'beta': 0.4}, (16, 1), '1d'), ('darcy', None, (16, 16, 1), '2d'),
    ('shallow_water', None, (16, 16, 1), '2d')])
def test_a_regenerated_file_becomes_labelled_data(name, parameters, shape, dtype, tmp_path):
    path = write.write(tasks.TASKS[name], 20, tmp_path / pdebench.WIRINGS[name].file, resolution=16,
                       parameters=parameters, progress=False)
    task = prepared.tasks()[f'pdebench/{name}']
    folder = prepared.prepare(task, path.parent, tmp_path / 'data', progress=False)
    assert any('was made by fipjax.data.pde' in line for line in prepared.remarks(folder))
    c = config_lib.transfer_base()
    c.target.update({'data': 'tfds', 'name': task.name, 'data_dir': str(tmp_path / 'data'), 'output': 'dense',
                     'kind': dtype})
    found = labelled.build(c.target)
    assert [len(s) for s in (found.train, found.validation, found.test)] == [16, 2, 2]
    assert found.task.shape == found.task.target_shape == shape
    y = np.concatenate([s.y for s in (found.train, found.validation, found.test)])
    assert np.isfinite(y).all() and y.std() > 0.5  # standardised by training
