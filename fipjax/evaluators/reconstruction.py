"""Pictures of reconstructions: visible patches overlaid, per-patch normalisation undone."""
from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fipjax.modality import Modality, denormalise_patches, patchify, unpatchify

GREY = 0.5           # what hides a masked patch, in displayed brightness
INPUT_COLOUR = '#999999'
TARGET_COLOUR = '#000000'
PREDICTION_COLOUR = '#D55E00'
SHADE = '#56B4E9'


def compose(modality: Modality, prediction_tokens: np.ndarray, input: np.ndarray, target: np.ndarray,
            visible: np.ndarray, *, normalised: bool = True) -> np.ndarray:
    """The reconstruction to look at: predictions where masked, the input itself where visible.

    A masked autoencoder is not trained on visible patches, so its output there means nothing; what the
    encoder saw is shown instead, exactly.

    Args:
        modality: an image or a sequence modality.
        prediction_tokens: [B, N, D] float, the decoder's output.
        input: [B, *shape] float, what was masked and encoded (noisy where the task denoises).
        target: [B, *shape] float, what the loss compares with.
        visible: [B, N] bool, True where the encoder saw the patch.
        normalised: whether the loss was taken on patches normalised to mean 0 and variance 1; the mean and
            variance of each target patch are then put back.
    Returns:
        [B, *shape] float.
    """
    tokens = np.asarray(prediction_tokens)
    if normalised:
        tokens = np.asarray(denormalise_patches(tokens, patchify(modality, np.asarray(target))))
    seen = patchify(modality, np.asarray(input))
    return np.asarray(unpatchify(modality, np.where(np.asarray(visible)[..., None], seen, tokens)))


def masked_pixels(modality: Modality, visible: np.ndarray) -> np.ndarray:
    """True at each pixel [H, W] or sample [L] of a masked patch; `visible` is [N] bool."""
    hidden = ~np.asarray(visible, bool).reshape(modality.grid)
    for axis in range(hidden.ndim):
        hidden = hidden.repeat(modality.patch, axis)
    return hidden


def displayed(image: np.ndarray) -> np.ndarray:
    """Brightness in [0, 1] of an image [H, W, C] in about [-1, 1]: RGB, or else the first channel [H, W]."""
    image = np.clip((np.asarray(image, np.float32) + 1) / 2, 0, 1)
    return image if image.shape[-1] == 3 else image[..., 0]


def to_png(figure: Figure, dpi: int = 150) -> str:
    """The figure as a base64 PNG (text without prefix). Writes no date, so equal figures give equal bytes."""
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, metadata={'Software': None})
    return base64.b64encode(buffer.getvalue()).decode('ascii')


def _images(modality, target, input, reconstruction, visible, names) -> Figure:
    columns = (('input', input, None), ('visible patches', input, visible),
               ('reconstruction', reconstruction, None), ('target', target, None))
    rows = len(target)
    height, width = modality.shape[:2]
    figure = Figure(figsize=(5.4, 0.35 + rows * 1.29 * height / width), layout='constrained')
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (title, images, seen) in enumerate(columns):
        axes[0, column].set_title(title, fontsize=9)
        for row in range(rows):
            axis = axes[row, column]
            axis.imshow(displayed(images[row]), cmap='viridis', vmin=0, vmax=1, interpolation='nearest',
                        extent=(0, width, height, 0))
            if seen is not None:
                # Drawn on top in grey rather than set in the data: in viridis no value is neutral.
                grey = np.full((height, width, 4), GREY)
                grey[..., 3] = masked_pixels(modality, seen[row])
                axis.imshow(grey, interpolation='nearest', extent=(0, width, height, 0))
            axis.set_xticks([])
            axis.set_yticks([])
            if column == 0 and names:
                axis.set_ylabel(names[row], fontsize=8)
    return figure


def _sequences(modality, target, input, reconstruction, visible, names) -> Figure:
    length, channels = modality.shape
    rows = len(target)
    figure = Figure(figsize=(9, 0.5 + 1.35 * rows * channels), layout='constrained')
    axes = figure.subplots(rows * channels, 1, squeeze=False, sharex=True)[:, 0]
    time = np.arange(length)
    for row in range(rows):
        hidden = masked_pixels(modality, visible[row])
        for channel in range(channels):
            axis = axes[row * channels + channel]
            axis.plot(time, input[row, :, channel], color=INPUT_COLOUR, linewidth=0.6, label='input')
            axis.plot(time, target[row, :, channel], color=TARGET_COLOUR, linewidth=0.9, label='target')
            predicted = np.where(hidden, reconstruction[row, :, channel], np.nan)
            axis.plot(time, predicted, color=PREDICTION_COLOUR, linewidth=0.9, label='reconstruction')
            axis.fill_between(time - 0.5, 0, 1, where=hidden, step='post', color=SHADE, alpha=0.18,
                              linewidth=0, transform=axis.get_xaxis_transform(), label='masked')
            axis.set_xlim(0, length - 1)
            axis.tick_params(labelsize=7)
            label = f'channel {channel}' if channels > 1 else ''
            if channel == 0 and names:
                label = f'{names[row]}\n{label}'
            axis.set_ylabel(label, fontsize=7)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside upper center', ncols=4, fontsize=8, frameon=False)
    axes[-1].set_xlabel('sample', fontsize=8)
    return figure


def _tokens(target, predicted, visible, names) -> Figure:
    rows, length = target.shape
    state = np.where(visible, 0, np.where(predicted == target, 1, 2))
    colours = np.asarray([[0.85, 0.85, 0.85], [0.0, 0.447, 0.698], [0.835, 0.369, 0.0]])
    figure = Figure(figsize=(9, 0.8 + 0.3 * rows), layout='constrained')
    axis = figure.subplots()
    axis.imshow(colours[state], aspect='auto', interpolation='nearest')
    axis.set_xlabel('position', fontsize=8)
    axis.set_yticks(range(rows), names or [str(row) for row in range(rows)], fontsize=8)
    return figure


def panel(modality: Modality, target: np.ndarray, input: np.ndarray, prediction_tokens: np.ndarray,
          visible: np.ndarray, *, normalised: bool = True, names: list[str] | None = None,
          title: str | None = None, examples: int | None = None) -> dict:
    """A picture of what a decoder makes of masked patches.

    Images: a row an example; columns input, visible patches, reconstruction, target. Sequences: lines,
    masked spans shaded. Tokens: a strip an example; grey visible, blue right, orange wrong.

    Args:
        modality: name, kind, shape, patch.
        target, input: [B, *shape]; image values in about [-1, 1]; token ids [B, L].
        prediction_tokens: [B, N, D] decoder output; for tokens logits [B, N, vocab].
        visible: [B, N] bool, True where the encoder saw the patch.
        normalised: see `compose`.
        names: a short name an example ('QPSK, -4 dB'), or None.
        title: None gives 'Reconstruction of <modality>'.
        examples: at most this many are drawn, from the first; None draws 4, of sequences 2.
    Returns:
        {'title', 'caption', 'png', 'wide'}; png is base64 without prefix, wide asks for
            the full width of a page.
    Raises:
        ValueError: `visible` or `prediction_tokens` does not fit the modality.
    """
    tokens = modality.tokens
    examples = examples or (2 if modality.kind == 'sequence' else 4)
    target, input, prediction_tokens, visible = (
        np.asarray(x)[:examples] for x in (target, input, prediction_tokens, visible))
    visible = visible.astype(bool)
    if visible.shape != (len(target), tokens) or prediction_tokens.shape[:2] != visible.shape:
        raise ValueError(f'panel: {modality.name} has {tokens} tokens; found visible {visible.shape} and '
                         f'predictions {prediction_tokens.shape} for {len(target)} examples')
    names = list(names)[:examples] if names else None
    share = 1 - visible.mean()
    if modality.kind == 'tokens':
        predicted = prediction_tokens.argmax(axis=-1)
        hidden = ~visible
        right = np.mean(predicted[hidden] == target[hidden]) if hidden.any() else float('nan')
        figure = _tokens(target, predicted, visible, names)
        caption = (f'Grey: visible. Blue: masked and right. Orange: masked and wrong. {share:.0%} of the '
                   f'tokens are masked; {right:.0%} of those are right.')
    else:
        reconstruction = compose(modality, prediction_tokens, input, target, visible, normalised=normalised)
        draw = _images if modality.kind == 'image' else _sequences
        figure = draw(modality, target, input, reconstruction, visible, names)
        hidden = ~visible
        error = np.square(patchify(modality, reconstruction) - patchify(modality, target)).mean(axis=-1)
        mse = f' Mean squared error on masked patches: {error[hidden].mean():.4f}.' if hidden.any() else ''
        caption = (f'{share:.0%} of the patches are masked. Masked patches show the prediction, visible ones '
                   'the input as the encoder saw it.')
        if normalised:
            caption += ' The loss works on normalised patches; mean and variance come from the target.'
        caption += mse
        if modality.kind == 'image' and modality.shape[-1] not in (1, 3):
            caption += f' Only the first of {modality.shape[-1]} channels is shown.'
    return {'title': title or f'Reconstruction of {modality.name}', 'caption': caption, 'png': to_png(figure),
            'wide': modality.kind != 'image'}
