"""The heat map of a grid: its numbers, what colours are differences to, labels and caption."""
import base64
import io

import numpy as np
import pytest
from fake_grid import cell
from PIL import Image

from fipjax.analysis import grid_pictures

GENRES, TENTH = 'test/genres/micro_f1@100%', 'test/vqa/soft_accuracy@10%'


@pytest.fixture
def drawn(monkeypatch):
    """Draws, and gives the picture and its figure."""
    def draw(found):
        figures = []
        monkeypatch.setattr(grid_pictures, 'to_png', lambda figure: figures.append(figure) or 'png')
        return grid_pictures.heat_map(found), figures[0]
    return draw


def panels(figure):
    """title -> (rows, columns, colours, texts) of the panels; the last axes are the colour bar's."""
    out = {}
    for axis in figure.axes[:-1]:
        if axis.get_visible():
            texts = {tuple(map(int, t.get_position()[::-1])): t.get_text() for t in axis.texts}
            out[axis.get_title()] = ([t.get_text() for t in axis.get_yticklabels()],
                                     [t.get_text() for t in axis.get_xticklabels()],
                                     axis.images[0].get_array().filled(np.nan), texts)
    return out


GRID = [cell(s, v + s / 100, data=d, objective=o, model=m) for m, shift in (('visualbert', 0), ('vilbert', 0.1))
        for d, o, v in (('coco', 'mlm', 0.5 + shift), ('coco', 'mmm', 0.58 + shift), ('cc', 'mlm', 0.3),
                        ('none', 'mlm', 0.4 + shift)) for s in (0, 1)]


def test_numbers_are_means_over_seeds_and_colours_differences_to_no_pretraining(drawn):
    picture, figure = drawn(GRID)
    found = panels(figure)
    assert list(found) == ['visualbert', 'vilbert']
    _, columns, colours, texts = found['vilbert']
    rows = found['visualbert'][0]
    assert rows == ['none', 'coco · mlm', 'coco · mmm', 'cc · mlm'] and columns == ['vqa\n100%']
    np.testing.assert_allclose(colours[:, 0], [0, 10, 18, -20], atol=1e-9)  # against ViLBERT's own 0.505
    assert [texts[i, 0] for i in range(4)] == ['50.5', '60.5', '68.5', '30.5']
    assert found['visualbert'][3][0, 0] == '40.5'
    images = [axis.images[0] for axis in figure.axes[:2]]
    assert {image.get_clim() for image in images} == {(-20.0, 20.0)}  # one scale for all panels, 0 in its middle
    assert figure.axes[-1].get_ylabel() == 'difference (points)'
    assert picture['caption'] == ('Test scores in percent, means over 2 seeds; colour is the difference to no '
                                  'pretraining of the same panel and column.')


def test_better_is_blue_and_letters_can_be_read(drawn):
    _, figure = drawn([cell(value=0.5, data='none'), *(cell(value=0.5 + k / 100, data=str(k)) for k in range(-20, 21))])
    axis = figure.axes[0]
    image = axis.images[0]
    worst, best = (image.cmap(image.norm(v))[:3] for v in (-20, 20))
    assert len(axis.texts) == 42 and worst[0] > worst[2] and best[2] > best[0]
    for text in axis.texts:
        at = int(text.get_position()[1])
        shade = np.array(image.cmap(image.norm(image.get_array()[at, 0])))[:3]
        linear = np.where(shade <= 0.04045, shade / 12.92, ((shade + 0.055) / 1.055) ** 2.4)
        light = linear @ [0.2126, 0.7152, 0.0722]
        contrast = 1.05 / (light + 0.05) if text.get_color() == 'white' else (light + 0.05) / 0.05
        assert contrast > 4.5, text.get_text()  # of WCAG 2, for small letters


def test_without_a_run_without_pretraining_colours_are_to_the_mean(drawn):
    picture, figure = drawn([cell(0, 0.5), cell(0, 0.7, data='cc')])
    _, _, colours, _ = panels(figure)['test scores']
    np.testing.assert_allclose(colours[:, 0], [-10, 10])
    assert figure.axes[-1].get_ylabel() == 'difference (points)'
    assert picture['caption'] == ('Test scores in percent, means over 1 seed; colour is the difference to the mean of '
                                  'the same panel and column.')


def test_what_is_not_finished_is_empty_and_said(drawn):
    found = [*GRID[:-1], cell(0, 0.6, GENRES, data='coco'), cell(0, 0.2, GENRES, data='cc')]  # no 'none' of genres
    picture, figure = drawn(found)
    _, columns, colours, texts = panels(figure)['visualbert']
    assert columns == ['vqa\n100%', 'genres\n100%']
    np.testing.assert_allclose(colours[:, 1], [np.nan, 20, np.nan, -20])
    assert set(texts) == {(i, 0) for i in range(4)} | {(1, 1), (3, 1)}
    assert np.isnan(panels(figure)['vilbert'][2][:, 1]).all()
    assert 'means over 1 to 2 seeds' in picture['caption'] and 'mean of the column where there is none' in \
        picture['caption']


def test_only_what_differs_is_in_labels(drawn):
    found = [cell(data='none'), cell(share=0.1), cell(), cell(zero=True), cell(seen='text'),
             cell(pretraining='pretrain.steps=9'), cell(metric=TENTH)]
    rows, columns, _, _ = panels(drawn(found)[1])['test scores']
    start = 'coco · share 1.0 · seen'
    assert rows == ['none', 'coco · share 0.1 · seen both · zero False', f'{start} both · zero False',
                    f'{start} both · zero True', f'{start} text · zero False',
                    f'{start} both · zero False · pretrain.steps=9']
    assert columns == ['vqa\n100%', 'vqa\n10%']
    titles = list(panels(drawn([cell(), cell(mode='frozen', inputs='text'), cell(setting='text.length=3 $')])[1]))
    assert titles == ['full, both', 'frozen, text', r'full, both, text.length=3 \$']


def test_picture_is_a_png_and_nothing_gives_none():
    picture = grid_pictures.heat_map(GRID)
    image = Image.open(io.BytesIO(base64.b64decode(picture['png'])))
    assert image.format == 'PNG' and picture['wide'] and image.size[0] > 600
    assert grid_pictures.heat_map([]) is None
    assert grid_pictures.heat_map([cell()._replace(metrics={})]) is None
