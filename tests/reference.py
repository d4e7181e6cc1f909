"""The model and the losses once more, in plain NumPy float64 and with loops, to compare fipjax with."""
from __future__ import annotations

import math

import numpy as np

erf = np.vectorize(math.erf)


def tokens_of(modality, x):
    """Patches by explicit loops: [B, N, D], ids [B, L] for kind 'tokens'."""
    if modality.kind == 'tokens':
        return x
    p, out = modality.patch, []
    for example in x:
        if modality.kind == 'image':
            h, w, _ = modality.shape
            out.append([example[i:i + p, j:j + p].ravel() for i in range(0, h, p) for j in range(0, w, p)])
        else:
            out.append([example[i:i + p].ravel() for i in range(0, modality.shape[0], p)])
    return np.array(out, np.float64)


def positions(grid, dim):
    """Sine-cosine positions, one token and one frequency at a time."""
    out = np.zeros((int(np.prod(grid)), dim))
    part = dim // len(grid)
    for n, index in enumerate(np.ndindex(*grid)):
        for axis, x in enumerate(index):
            for k in range(part // 2):
                angle = x / 10000 ** (2 * k / part)
                out[n, axis * part + k], out[n, axis * part + part // 2 + k] = math.sin(angle), math.cos(angle)
    return out


def dense(p, x):
    return x @ np.asarray(p['kernel'], np.float64) + np.asarray(p['bias'], np.float64)


def norm(p, x):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * p['scale'] + p['bias']


def mlp(p, x):
    h = dense(p['hidden'], x)
    return dense(p['out'], h * 0.5 * (1 + erf(h / math.sqrt(2))))


def attention(p, heads, queries, memory, count):
    """One example: queries [Q, D], memory [K, E]; key k counts count[k] times (0: not there)."""
    q, k, v = dense(p['query'], queries), dense(p['key'], memory), dense(p['value'], memory)
    size, out = q.shape[-1] // heads, np.zeros_like(q)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = q[:, own] @ k[:, own].T / math.sqrt(size)
        weights = count * np.exp(logits - logits.max(-1, keepdims=True))
        out[:, own] = weights @ v[:, own] / weights.sum(-1, keepdims=True)
    return dense(p['out'], out)


def encode(p, heads, x, count):
    """One example: x [K, dim]."""
    for i in range(sum(name.startswith('attention_norm') for name in p)):
        h = norm(p[f'attention_norm_{i}'], x)
        x = x + attention(p[f'attention_{i}'], heads, h, h, count)
        x = x + mlp(p[f'mlp_{i}'], norm(p[f'mlp_norm_{i}'], x))
    return norm(p['norm'], x)


def standardise(params, modality, x, which):
    """Each channel minus its mean, over its deviation; ids as they are."""
    if modality.kind == 'tokens':
        return x
    s, out = params['statistics'][modality.name][which], np.array(x, np.float64)
    for c in range(out.shape[-1]):
        out[..., c] = (out[..., c] - s['mean'][c]) / s['deviation'][c]
    return out


def tokenize(params, modality, x):
    """One modality of a batch: [B, N, dim]."""
    p, tokens = params['tokenizers'][modality.name], tokens_of(modality, standardise(params, modality, x, 'input'))
    table = np.asarray(p['embedding'].get('embedding', 0), np.float64)
    embedded = table[tokens] if modality.kind == 'tokens' else dense(p['embedding'], tokens)
    return embedded + positions(modality.grid, embedded.shape[-1]) + p['modality']


def decode(p, modality, heads, where, memory):
    """One example, all of memory is seen: where [Q] -> [Q, D]."""
    x = np.asarray(p['mask_token'], np.float64) + positions(modality.grid, len(p['mask_token']))[where]
    b = p['blocks']
    memory, everything = dense(b['memory'], memory), np.ones(len(memory))
    for i in range(sum(name.startswith('attention_norm') for name in b)):
        h = norm(b[f'attention_norm_{i}'], x)
        x = x + attention(b[f'attention_{i}'], heads, h, memory, everything)
        x = x + mlp(b[f'mlp_{i}'], norm(b[f'mlp_norm_{i}'], x))
    return dense(b['prediction'], norm(b['norm'], x))


def cross_entropy(logits, label):
    shifted = logits - logits.max()
    return math.log(np.exp(shifted).sum()) - shifted[label]


def unit(z):
    return z / np.linalg.norm(z)


def fip(modalities, settings, widths, params, batch, visible, teacher=None):
    """FIP's metrics and loss, one example after the other, by equations (1) and (2).

    Args:
      visible: bool [B, N], all modalities one after the other.
      teacher: full codes by row to use as the constant of the regulariser; None computes them.

    Returns:
      (total loss, name -> (sum, count), row -> full code).
    """
    sums = {m: [0.0, 0] for m in modalities} | {'consistency': [0.0, 0]}
    tokens = {m: tokenize(params, s, batch['inputs'][m]) for m, s in modalities.items()}
    codes = {}
    for b in range(len(batch['mask'])):
        here = [m for m in modalities if batch['mask'][b] and batch['present'][m][b]]
        shown, start = {}, 0
        for m, s in modalities.items():
            shown[m] = np.flatnonzero(visible[b, start:start + s.tokens])
            start += s.tokens
        given = [m for m in here if len(shown[m])]
        if not given:
            continue
        x = np.concatenate([tokens[m][b][shown[m]] for m in given])
        count = np.concatenate([np.full(len(shown[m]), float(settings.attention_bias[m])) for m in given])
        memory = encode(params['encoder'], widths.heads, x, count)
        for m in here:
            s = modalities[m]
            hidden = np.setdiff1d(np.arange(s.tokens), shown[m])
            if not len(hidden):
                continue
            predicted = decode(params['decoders'][m], s, widths.decoder_heads, hidden, memory)
            clean = batch['targets'][m][b:b + 1]
            wanted = tokens_of(s, clean if settings.normalise_targets else standardise(params, s, clean, 'target'))
            wanted = wanted[0][hidden]
            for p, w in zip(predicted, wanted, strict=True):
                if s.kind == 'tokens':
                    error = cross_entropy(p, w)
                else:
                    w = (w - w.mean()) / math.sqrt(w.var() + 1e-6) if settings.normalise_targets else w
                    error = np.mean((p - w) ** 2)
                sums[m][0] += error
                sums[m][1] += 1
        t = settings.target
        if settings.consistency and t in here and len(here) > 1:
            codes[b] = memory.mean(0) if teacher is None else teacher[b]
            error = 1.0
            if len(shown[t]):
                own = encode(params['encoder'], widths.heads, tokens[t][b][shown[t]], np.ones(len(shown[t])))
                error = 1 - unit(own.mean(0)) @ unit(codes[b])
            sums['consistency'][0] += error
            sums['consistency'][1] += 1
    seen = [m for m in modalities if sums[m][1]]
    weight = sum(settings.loss_weight[m] for m in seen)
    total = sum(settings.loss_weight[m] * sums[m][0] / sums[m][1] for m in seen) / weight if weight else 0.0
    total += settings.consistency * sums['consistency'][0] / max(sums['consistency'][1], 1)
    return total, {k: tuple(v) for k, v in sums.items()}, codes
