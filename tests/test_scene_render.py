"""Synthetic pictures: exact boxes, what keys and knobs do, areas of shapes."""
import numpy as np
import pytest

from fipjax.data import scene_render as render
from fipjax.data.scene_render import COLOURS, MOST, RADII, SHAPES, SIDE, Scenes, Visual
from fipjax.errors import UserError

CLEAN = Visual(noise=0.0)
FAR = render.visual(1.0)


@pytest.fixture(scope='module')
def scenes():
    return render.draw(3, 'tests', np.arange(60))


def take(scenes, rows):
    return Scenes(*(x[rows] for x in scenes))


def test_boxes_are_exact(scenes):
    """The last object of a scene is what changes when it is left out, pixel by pixel."""
    scenes = take(scenes, slice(40))
    pictures, boxes = render.render(scenes, CLEAN)
    for slot in range(MOST):
        less = scenes._replace(count=np.minimum(scenes.count, slot))
        more = scenes._replace(count=np.minimum(scenes.count, slot + 1))
        changed = (render.render(less, CLEAN)[0] != render.render(more, CLEAN)[0]).any(-1)
        for picture, box, there in zip(changed, boxes[:, slot], slot < scenes.count):
            rows, columns = np.nonzero(picture)
            expected = [0, 0, 0, 0]
            if there:
                expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_array_equal(box * SIDE, expected)
    assert pictures.dtype == np.uint8 and boxes.dtype == np.float32


def test_circles_are_where_they_should_be(scenes):
    _, boxes = render.render(scenes, CLEAN)
    picture, slot = np.nonzero((np.arange(MOST) < scenes.count[:, None]) & (scenes.shape == SHAPES.index('circle')))
    box, centre, radius = boxes[picture, slot], scenes.centre[picture, slot], RADII[scenes.size[picture, slot], None]
    np.testing.assert_allclose(box[:, :2], centre - radius, atol=1 / SIDE)
    np.testing.assert_allclose(box[:, 2:], centre + radius, atol=1 / SIDE)
    assert abs(((box[:, :2] + box[:, 2:]) / 2 - centre).mean()) < 0.12 / SIDE and len(box) > 20  # no drift


def test_objects_do_not_touch(scenes):
    _, boxes = render.render(scenes, CLEAN)
    for box, count in zip(boxes, scenes.count):
        assert 2 <= count <= MOST and not box[count:].any()
        canvas = np.zeros((SIDE, SIDE), int)
        for x1, y1, x2, y2 in (box[:count] * SIDE).astype(int):
            assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE
            canvas[y1:y2, x1:x2] += 1
        assert canvas.max() == 1


def test_keyed_by_id(scenes):
    rows = np.array([7, 3, 50])
    few = render.draw(3, 'tests', rows)
    for a, b in zip(few, take(scenes, rows)):
        np.testing.assert_array_equal(a, b)
    for look in (render.visual(0.0), FAR):
        pictures, _ = render.render(scenes, look, at_once=25)
        np.testing.assert_array_equal(render.render(few, look)[0], pictures[rows])
    assert (render.draw(4, 'tests', rows).centre != few.centre).all()
    assert (render.draw(3, 'other', rows).centre != few.centre).all()


def test_nothing_is_rare():
    scenes = render.draw(0, 'balance', np.arange(3000))
    shown = np.arange(MOST) < scenes.count[:, None]
    for values, number in ((scenes.shape, 8), (scenes.colour, 8), (scenes.size, 3)):
        share = np.bincount(values[shown], minlength=number) / shown.sum()
        np.testing.assert_allclose(share, 1 / number, rtol=0.12)
    textures = np.bincount(scenes.texture[shown]) / shown.sum()
    np.testing.assert_allclose(textures, [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.02)
    np.testing.assert_allclose(np.bincount(scenes.count)[2:] / 3000, 1 / (MOST - 1), atol=0.03)
    again = (scenes.shape[:, 1:] == scenes.shape[:, :1]).mean()
    np.testing.assert_allclose(again, 0.25 + 0.75 / 8, atol=0.02)  # there is something to count


def test_texture_moves_textures_only(scenes):
    more = render.draw(3, 'tests', np.arange(60), texture=0.9)
    for name in Scenes._fields:
        same = np.array_equal(getattr(more, name), getattr(scenes, name))
        assert same == (name != 'texture')
    assert (more.texture == 0).mean() < 0.15 < 0.45 < (scenes.texture == 0).mean()
    kept = scenes.texture > 0
    np.testing.assert_array_equal(more.texture[kept], scenes.texture[kept])


@pytest.mark.parametrize('knob', [{'palette': 1.0}, {'gradient': 1.0}, {'noise': 0.06}, {'blur': 1.0}, {'clutter': 4}])
def test_knobs_move_pixels_only(scenes, knob):
    before, boxes = render.render(scenes, CLEAN)
    after, boxes_after = render.render(scenes, CLEAN._replace(**knob))
    np.testing.assert_array_equal(boxes, boxes_after)
    assert (before != after).any((1, 2, 3)).all()


def background(scenes, pictures):
    """Values [P, n, 3] of pixels that no object covers, NaN elsewhere."""
    out = pictures.astype(float)
    for x, box, count in zip(out, render.render(scenes, CLEAN)[1], scenes.count):
        for x1, y1, x2, y2 in (box[:count] * SIDE).astype(int):
            x[y1:y2, x1:x2] = np.nan
    return out.reshape(len(out), -1, 3)


def test_what_knobs_say(scenes):
    def spread(**knobs):
        values = background(scenes, render.render(scenes, CLEAN._replace(**knobs))[0])
        return np.nanstd(values, 1).mean(), np.nanmean(values)

    assert spread()[0] < 1e-6  # an even background
    np.testing.assert_allclose(spread(palette=1.0, noise=0.05)[0], 0.05 * 255, rtol=0.03)
    slopes = [spread(gradient=g)[0] for g in (0.2, 0.5, 1.0)]
    assert 3 < slopes[0] < slopes[1] < slopes[2]
    levels = [spread(palette=p)[1] for p in (0, 0.5, 1)]
    assert levels[0] > 200 > levels[1] > 100 > levels[2]


def test_clutter_stays_behind(scenes):
    plain, _ = render.render(scenes, CLEAN)
    alone, _ = render.render(scenes._replace(count=0 * scenes.count), CLEAN)
    objects, touched = (plain != alone).any(-1), []
    for clutter in (0, 2, 4, 8):
        changed = (render.render(scenes, CLEAN._replace(clutter=clutter))[0] != plain).any(-1)
        assert not (changed & objects).any()
        touched.append(changed.mean())
    assert touched[0] == 0 and touched[0] < touched[1] < touched[2] < touched[3]


def test_blur_of_single_scenes(scenes):
    sigma = np.where(np.arange(60) % 2, 4.0, 0.0)
    sharp, _ = render.render(scenes, CLEAN)
    mixed, _ = render.render(scenes._replace(blur=sigma), CLEAN)
    np.testing.assert_array_equal(mixed[::2], sharp[::2])

    def edges(x):
        return abs(np.diff(x.astype(float), axis=1)).mean()

    assert edges(mixed[1::2]) < 0.5 * edges(sharp[1::2])
    both, _ = render.render(scenes._replace(blur=np.full(60, 3.0)), CLEAN._replace(blur=4.0))
    np.testing.assert_array_equal(both, render.render(scenes, CLEAN._replace(blur=5.0))[0])  # variances add


@pytest.mark.parametrize('shift', [0.0, 0.8])
def test_colours_can_be_told(shift):
    """Plain objects of the two domains: the nearest mean colour of half the objects is right for the other half."""
    scenes = render.draw(1, 'colours', np.arange(300), texture=0.0)
    pictures, boxes = render.render(scenes, render.visual(shift))
    picture, slot = np.nonzero(np.arange(MOST) < scenes.count[:, None])
    ring = SHAPES.index('ring')  # hollow in the middle
    keep = scenes.shape[picture, slot] != ring
    picture, slot = picture[keep], slot[keep]
    middle = ((boxes[..., :2] + boxes[..., 2:])[picture, slot] * SIDE / 2).astype(int)
    values = np.stack([pictures[p, y - 1:y + 2, x - 1:x + 2].mean((0, 1)) for p, (x, y) in zip(picture, middle)])
    colour, half = scenes.colour[picture, slot], len(values) // 2
    means = np.stack([values[:half][colour[:half] == k].mean(0) for k in range(len(COLOURS))])
    guess = np.linalg.norm(values[half:, None] - means, axis=-1).argmin(1)
    assert (guess == colour[half:]).mean() > 0.93


def star_area():
    """Shoelace formula; the inner corners have a radius of 0.45."""
    angle = np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.45, 1.0)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


@pytest.mark.parametrize('name, area', [
    ('circle', np.pi), ('square', 1.8 ** 2), ('triangle', 0.54 * 1.85 ** 2), ('diamond', 2 * 0.75),
    ('star', star_area()), ('cross', 4 * 0.68 - 0.68 ** 2), ('ring', np.pi * 0.75), ('oval', np.pi * 0.6)])
def test_areas(name, area):
    line = (np.arange(400) + 0.5) / 200 - 1
    u, v = np.meshgrid(line, line)
    inside = render._inside(SHAPES.index(name), u, v)
    np.testing.assert_allclose(inside.mean() * 4, area, rtol=0.01)
    np.testing.assert_array_equal(inside, inside[:, ::-1])  # left as right
    assert inside.any(0).mean() > 0.7 or name == 'diamond'


def test_sizes_fit_their_cells():
    assert (np.diff(RADII) > 0.03).all() and RADII.max() < 1 / 6 - 1 / SIDE
    assert 2 * RADII.max() * SIDE < render.PATCH - 2


def test_visual():
    assert render.visual(0.0) == Visual()
    near, middle, far = (render.visual(s) for s in (0.0, 0.5, 1.0))
    assert all(a < b < c for a, b, c in zip(near, middle, far))
    with pytest.raises(UserError, match='visual shift is 1.5; allowed: 0..1'):
        render.visual(1.5)
