"""The method in plain float64 numpy, written from the equations of docs/method.md only.

It computes one video, one frame, one token and one head at a time and imports nothing from mafsar.
Weights are given by the names of a state dict. Every block computes every token; the last block has
no shortcut.
"""

from __future__ import annotations

import math

import numpy as np

Weights = dict[str, np.ndarray]
_erf = np.vectorize(math.erf, otypes=[np.float64])


def layer_norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return np.einsum("...i,oi->...o", x, w[f"{name}.weight"]) + w[f"{name}.bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def attention(
    queries: np.ndarray,
    keys: np.ndarray,
    w: Weights,
    name: str,
    heads: int,
    *,
    causal: bool = False,
) -> np.ndarray:
    """MSA over token lists (Lq, D) and (Lk, D), one query and one head at a time."""
    width = queries.shape[-1]
    size = width // heads
    matrix, bias = w[f"{name}.in_proj_weight"], w[f"{name}.in_proj_bias"]
    q = queries @ matrix[:width].T + bias[:width]
    k = keys @ matrix[width : 2 * width].T + bias[width : 2 * width]
    v = keys @ matrix[2 * width :].T + bias[2 * width :]
    mixed = np.zeros_like(q)
    for i in range(len(q)):
        seen = i + 1 if causal else len(k)
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            scores = [q[i, part] @ k[j, part] / math.sqrt(size) for j in range(seen)]
            for j, weight in enumerate(softmax(np.array(scores))):
                mixed[i, part] += weight * v[j, part]
    return linear(mixed, w, f"{name}.out_proj")


def adapter(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    """W_up · GELU(W_down · x + b_down) + b_up."""
    return linear(gelu(linear(x, w, f"{name}.down")), w, f"{name}.up")


def mlp(x: np.ndarray, w: Weights, name: str, act: str) -> np.ndarray:
    hidden = linear(x, w, f"{name}.c_fc")
    hidden = quick_gelu(hidden) if act == "quickgelu" else gelu(hidden)
    return linear(hidden, w, f"{name}.c_proj")


def adapted_block(
    z: np.ndarray, text: np.ndarray | None, w: Weights, index: int, heads: int, act: str, s: float
) -> np.ndarray:
    """The encoder's steps 1 to 4 for one video: Z (T, N+1, D); text (E,) in the support branch."""
    clip, own = f"visual.transformer.resblocks.{index}", f"adapters.blocks.{index}"
    frames, tokens, _ = z.shape
    c = z[:, 0]
    normed = layer_norm(c, w, f"{clip}.ln_1")
    attended = attention(normed, normed, w, f"{clip}.attn", heads)
    c_new = c + adapter(attended, w, f"{own}.gta.adapter")
    out = np.zeros_like(z)
    for i in range(frames):
        u = [*z[i], c_new[i]]
        if text is not None:
            u.append(linear(text, w, f"{own}.lma.text_fc"))
        stack = np.stack(u)
        normed = layer_norm(stack, w, f"{clip}.ln_1")
        a = attention(normed, normed, w, f"{clip}.attn", heads)
        v = (stack + a + adapter(a, w, f"{own}.lma.adapter"))[:tokens]
        y = layer_norm(v, w, f"{clip}.ln_2")
        out[i] = v + mlp(y, w, f"{clip}.mlp", act) + s * adapter(y, w, f"{own}.joint.adapter")
    return out


def plain_block(z: np.ndarray, w: Weights, name: str, heads: int, act: str, *, causal: bool):
    """CLIP's own block over one list of tokens (L, D)."""
    normed = layer_norm(z, w, f"{name}.ln_1")
    z = z + attention(normed, normed, w, f"{name}.attn", heads, causal=causal)
    return z + mlp(layer_norm(z, w, f"{name}.ln_2"), w, f"{name}.mlp", act)


def embed(images: np.ndarray, w: Weights) -> np.ndarray:
    """Patch, class and position embeddings of normalised images (T, 3, S, S), (T, N+1, D)."""
    kernel = w["visual.conv1.weight"]
    size = kernel.shape[-1]
    rows = []
    for image in images:
        tokens = [w["visual.class_embedding"]]
        for top in range(0, image.shape[1], size):
            for left in range(0, image.shape[2], size):
                patch = image[:, top : top + size, left : left + size]
                tokens.append(np.einsum("dcij,cij->d", kernel, patch))
        rows.append(np.stack(tokens) + w["visual.positional_embedding"])
    return np.stack(rows)


def encode_video(
    images: np.ndarray,
    text: np.ndarray | None,
    w: Weights,
    *,
    layers: int,
    heads: int,
    act: str,
    s: float = 0.5,
    plain: bool = False,
) -> np.ndarray:
    """F (T, E) of one video of normalised images (T, 3, S, S)."""
    z = embed(images, w)
    if not plain:
        z = z + w["adapters.temporal_embedding"][:, None, :]
    z = layer_norm(z, w, "visual.ln_pre")
    for index in range(layers):
        if plain:
            name = f"visual.transformer.resblocks.{index}"
            z = np.stack([plain_block(f, w, name, heads, act, causal=False) for f in z])
        else:
            z = adapted_block(z, text, w, index, heads, act, s)
    return layer_norm(z[:, 0], w, "visual.ln_post") @ w["visual.proj"]


def encode_text(tokens: np.ndarray, w: Weights, *, layers: int, heads: int, act: str) -> np.ndarray:
    """The raw embedding of one sentence of token ids (L,)."""
    x = np.stack([w["text.token_embedding.weight"][token] for token in tokens])
    x = x + w["text.positional_embedding"]
    for index in range(layers):
        x = plain_block(x, w, f"text.transformer.resblocks.{index}", heads, act, causal=True)
    x = layer_norm(x, w, "text.ln_final")
    return x[int(np.argmax(tokens))] @ w["text.text_projection"]


def tpcm(features: np.ndarray, text: np.ndarray | None, w: Weights, heads: int) -> np.ndarray:
    """The prototype module: F̃ (T, E) of one video's F (T, E)."""
    if text is None:
        x = features + attention(features, features, w, "tpcm.attn", heads)
    else:
        q = features + text
        context = np.concatenate([text[None], features])
        x = q + attention(q, context, w, "tpcm.attn", heads)
    hidden = gelu(linear(x, w, "tpcm.ffn.c_fc"))
    return x + linear(hidden, w, "tpcm.ffn.c_proj")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (max(np.linalg.norm(a), 1e-6) * max(np.linalg.norm(b), 1e-6)))


def scores(
    distances: np.ndarray,
    pooled: np.ndarray,
    texts: np.ndarray | None,
    *,
    factor: float,
    alpha: float,
    visual_scale: float,
    text_scale: float,
) -> np.ndarray:
    """p (C,) of one query from its distances (C,) to the prototypes and class texts (C, E).

    `factor` is 1 for OTAM and T for Bi-MHM and the mean metric. The distances themselves are
    restated in tests/restatements/matching.py.
    """
    visual = softmax(-visual_scale * factor * distances)
    if texts is None:
        return visual
    worded = softmax(text_scale * np.array([cosine(pooled, text) for text in texts]))
    return alpha * worded + (1 - alpha) * visual
