"""Phantoms of the head: an axial brain slice (MR) and a sector scan of a fetal head (US).

In MR the patient's right is on the picture's left; in US nobody can tell, and sides are the picture's.
Body coordinates as in `phantom_canvas`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from .canvas import Field, Mask, Point, Scene, mirror

# fmt: off
_VENTRICLE = [(0.488, 0.47), (0.475, 0.42), (0.45, 0.365), (0.425, 0.345), (0.418, 0.37), (0.445, 0.42),
              (0.458, 0.48), (0.455, 0.54), (0.43, 0.6), (0.405, 0.66), (0.42, 0.675), (0.455, 0.61),
              (0.482, 0.53)]
_CAUDATE = [(0.44, 0.39), (0.425, 0.42), (0.44, 0.46), (0.452, 0.45)]
_PUTAMEN = [(0.4, 0.42), (0.375, 0.47), (0.375, 0.53), (0.395, 0.56), (0.41, 0.5)]
# fmt: on
# sequence -> grey of fat, fluid, grey matter, white matter, tumour, oedema
_CONTRASTS: dict[str, tuple[float, float, float, float, float, float]] = {
    "T1": (0.85, 0.1, 0.42, 0.56, 0.92, 0.34),
    "T2": (0.62, 0.92, 0.5, 0.33, 0.72, 0.78),
    "FLAIR": (0.6, 0.08, 0.5, 0.4, 0.78, 0.85),
}


def draw_brain(scene: Scene) -> None:
    """Draw an axial slice, T1, T2 or FLAIR; at random a tumour with oedema, and lesions of white matter."""
    rng = scene.rng
    scene.pose(rng.normal(0, 0.06), tuple(rng.normal(1.0, 0.035, 2)), tuple(rng.normal(0, 0.012, 2)))
    fat, fluid, grey, white, bright, swollen = _CONTRASTS[str(rng.choice(list(_CONTRASTS)))]
    head = scene.oval(0.5, 0.5, 0.385, 0.455, jitter=0.004)
    scene.paint(head, fat, 1.5)
    for scale, value in ((0.965, 0.3), (0.948, 0.04), (0.91, fluid)):  # scalp, bone, fluid
        scene.paint(scene.oval(0.5, 0.5, 0.385 * scale, 0.455 * scale), value, 1.3)
    marrow = scene.stroke(
        [(0.5 + 0.358 * np.cos(a), 0.5 + 0.424 * np.sin(a)) for a in np.linspace(0, 6.3, 60)], 0.006
    )
    scene.paint(marrow, 0.6 * fat, 1.5, 0.6)
    brain = scene.oval(0.5, 0.502, 0.335, 0.402, jitter=0.004)
    _fold(scene, brain, fluid, grey, white)
    named: list[tuple[str, Mask]] = [("head", head), ("brain", brain)]
    named += [
        ("right cerebral hemisphere", brain & (scene.x < 0.5)),
        ("left cerebral hemisphere", brain & (scene.x > 0.5)),
    ]
    named += _deep(scene, fluid, grey)
    free = brain & ~np.any([mask for phrase, mask in named if "ventricle" in phrase], axis=0)
    free &= (np.abs(scene.x - 0.5) > 0.035) & _within(scene, 0.9)
    named += _brain_lesions(scene, free, bright, swollen)
    for phrase, mask in named:
        scene.name(phrase, mask if phrase == "head" else mask & brain)
    _acquire(scene, head)


def _within(scene: Scene, scale: float) -> Mask:
    """Where the brain, shrunk by `scale`, is."""
    inside: Mask = np.hypot((scene.x - 0.5) / 0.335, (scene.y - 0.502) / 0.402) < scale
    return inside


def _fold(scene: Scene, brain: Mask, fluid: float, grey: float, white: float) -> None:
    """The cortex: zero lines of smooth noise are sulci, a ribbon of grey matter lies along them."""
    depth = np.hypot((scene.x - 0.5) / 0.335, (scene.y - 0.502) / 0.402)
    wide = scene.rng.uniform(0.16, 0.3)
    folds = np.abs(scene.noise(9)) + 2.2 * np.clip(0.62 - depth, 0, 1) / 0.3
    folds = np.minimum(
        folds, 9 * np.abs(scene.x - 0.5) / 0.12 + 3 * (np.abs(scene.y - 0.5) < 0.16)
    )  # the cleft
    rim = np.minimum(folds, (1 - depth) / 0.055)
    ribbon = np.clip((0.95 - rim) / 0.25, 0, 1)
    sulci = np.clip((wide + 0.3 * (depth - 0.8) - folds) / 0.14, 0, 1)
    tissue = white + (grey - white) * ribbon
    tissue += (fluid - tissue) * sulci * 0.9
    alpha = scene.soften(brain, 1.2)
    scene.pixels[..., 0] += alpha * (tissue - scene.pixels[..., 0])


def _deep(scene: Scene, fluid: float, grey: float) -> list[tuple[str, Mask]]:
    """Deep grey matter and the ventricles, the patient's right first."""
    rng = scene.rng
    wide, found = rng.uniform(0.8, 1.7), []
    for side, flip in (("right", False), ("left", True)):
        for points in (_CAUDATE, _PUTAMEN):
            scene.paint(scene.shape(mirror(points) if flip else points, 0.002), grey, 2)
        x = 0.538 if flip else 0.462
        thalamus = scene.oval(x, 0.545, 0.028, 0.045, 0.35 if not flip else -0.35, 0.002)
        horn = [(0.5 - (0.5 - x) * wide, 0.5 + (y - 0.5) * (0.8 + 0.2 * wide)) for x, y in _VENTRICLE]
        ventricle = scene.shape(mirror(horn) if flip else horn, 0.003)
        thalamus &= ~ventricle
        scene.paint(thalamus, grey, 2.5)
        scene.paint(ventricle, fluid, 1.2)
        found += [(f"{side} thalamus", thalamus), (f"{side} lateral ventricle", ventricle)]
    scene.paint(scene.stroke([(0.5, 0.5), (0.5, 0.57)], 0.007), fluid, 1.2)
    return found


def _brain_lesions(scene: Scene, free: Mask, bright: float, swollen: float) -> list[tuple[str, Mask]]:
    """Draw a tumour with its oedema and spots in the white matter, or nothing; all clear of the midline."""
    rng = scene.rng
    found: list[tuple[str, Mask]] = []
    if rng.random() < 0.6:
        radius = rng.uniform(0.03, 0.075)
        side = free & ((scene.x < 0.5) if rng.random() < 0.5 else (scene.x > 0.5))
        if (at := scene.place(side, 0.9 * radius, 80)) is not None:
            tumour = (
                scene.oval(*at, radius, radius * rng.uniform(0.75, 1), rng.uniform(0, 3), 0.1 * radius) & side
            )
            oedema = scene.oval(*at, 1.8 * radius, 1.6 * radius, rng.uniform(0, 3), 0.22 * radius) & side
            scene.paint(oedema, swollen, 4, 0.85)
            scene.paint(tumour, bright, 1.5)
            scene.shade(0.07 * scene.noise(5), tumour)
            if rng.random() < 0.7:
                dead = scene.oval(*at, 0.62 * radius, 0.5 * radius, rng.uniform(0, 3), 0.1 * radius)
                scene.paint(dead & tumour, bright - 0.5 if bright > 0.9 else bright + 0.12, 3)
            found += [("brain tumour", tumour), ("peritumoural oedema", oedema | tumour)]
            free = free & ~(oedema | tumour)
    inner = free & _within(scene, 0.72)
    for _ in range(int(rng.integers(2, 7)) if rng.random() < 0.35 else 0):
        radius = rng.uniform(0.008, 0.016)
        if (at := scene.place(inner, 1.3 * radius)) is not None:
            spot = scene.oval(*at, radius, radius * rng.uniform(0.6, 1), rng.uniform(0, 3)) & inner
            scene.paint(spot, swollen if swollen > 0.5 else 0.22, 1.5)
            found.append(("white matter hyperintensity", spot))
            inner &= ~(scene.soften(spot, 4) > 0.02)
    return found


def _acquire(scene: Scene, head: Mask) -> None:
    """Coil shading, truncated k-space (ringing at edges), a ghost along the phase direction, Rician noise."""
    rng = scene.rng
    cx, cy = rng.uniform(0.2, 0.8, 2)
    scene.shade(0.03 * scene.noise(60) + 0.012 * scene.noise(12), head)
    bias = 1.18 - rng.uniform(0.2, 0.6) * np.hypot(scene.u - cx, scene.v - cy)
    image: Field = scene.pixels[..., 0] * bias
    if rng.random() < 0.3:
        image = image + 0.05 * np.roll(image, scene.size // 2 - int(rng.integers(0, scene.size // 8)), axis=0)
    spectrum = rfft2(image)
    keep = int(scene.size * rng.uniform(0.2, 0.36))
    spectrum[keep:-keep] = 0
    spectrum[:, keep:] = 0
    real = irfft2(spectrum, s=image.shape)
    grain = rng.uniform(0.012, 0.026)
    scene.pixels = np.hypot(real + grain * scene.noise(0.9), grain * scene.noise(0.9))[..., None]


# The sector: its apex above the picture, half its opening, nearest and farthest depth, fractions of the side.
_APEX, _OPENING, _NEAR, _FAR = (0.5, -0.12), 0.66, 0.19, 1.08


def draw_fetal_head(scene: Scene) -> None:
    """Draw a fetal head at the level of the thalami; at random placenta and cysts of the choroid plexus."""
    rng = scene.rng
    beam, depth, fan = _sector(scene.size)
    x, y = 0.5 + rng.normal(0, 0.035), 0.52 + rng.normal(0, 0.03)
    rx, ry, tilt = rng.uniform(0.23, 0.3), rng.uniform(0.17, 0.21), rng.uniform(-0.6, 0.6)
    scene.pixels[..., 0] = 0.21 + 0.06 * scene.noise(22) + 0.035 * scene.noise(34, 5)
    fluid = scene.oval(x, y, rx + 0.07, ry + 0.055, tilt + rng.normal(0, 0.1), 0.014) & fan
    scene.paint(fluid, 0.05, 4)
    named: list[tuple[str, Mask]] = []
    if rng.random() < 0.6:
        named.append(("placenta", _placenta(scene, fan, fluid, x, y)))
    head = scene.oval(x, y, rx, ry, tilt, 0.002)
    named.append(("fetal head", head & fan))
    scene.paint(head, 0.42, 2)
    inner = scene.oval(x, y, rx - 0.018, ry - 0.018, tilt)
    scene.paint(inner, 0.2, 2)
    scene.shade(0.045 * scene.noise(11), inner)

    def at(along: float, across: float) -> Point:
        """A point of the head's own frame, in fractions of its radii."""
        u, v = along * rx, across * ry
        return x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)

    named += [("fetal brain", inner & fan)]
    named += [(phrase, mask & inner & fan) for phrase, mask in _fetal_brain(scene, at, (rx, ry, tilt))]
    # the skull echoes where the beam meets it at a right angle
    cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    along, across = (scene.u - x) * cos + (scene.v - y) * sin, (scene.v - y) * cos - (scene.u - x) * sin
    normal = np.arctan2(across / ry**2, along / rx**2) + np.float32(tilt)
    facing = np.cos(normal - np.arctan2(scene.v - _APEX[1], scene.u - _APEX[0])) ** 2
    skull = scene.soften(head & ~inner, 1.5)
    scene.pixels[..., 0] += skull * (1.5 * facing - 0.3)
    shadow = _shadow(scene, head, beam)
    _scan_sector(scene, beam, depth, fan, shadow)
    for phrase, mask in named:
        scene.name(phrase, mask)


def _placenta(scene: Scene, fan: Mask, fluid: Mask, x: float, y: float) -> Mask:
    """A bright, even layer along the front or the back wall."""
    front = scene.rng.random() < 0.5
    middle = y - 0.34 if front else y + 0.34
    placenta = scene.oval(x, middle, scene.rng.uniform(0.22, 0.3), 0.085, 0, 0.012) & fan & ~fluid
    scene.paint(placenta, 0.4, 4)
    scene.shade(0.04 * scene.noise(6), placenta)
    return placenta


def _fetal_brain(
    scene: Scene, at: Callable[[float, float], Point], radii: tuple[float, float, float]
) -> list[tuple[str, Mask]]:
    """Midline, cavum, thalami, choroid plexus with or without a cyst, in the frame of the head."""
    rng, (rx, ry, tilt) = scene.rng, radii
    for ends in ((-0.82, -0.45), (-0.2, 0.82)):
        scene.paint(scene.stroke([at(ends[0], 0), at(ends[1], 0)], 0.006), 0.75, 1.5, 0.9)
    cavum = scene.oval(*at(-0.33, 0), 0.12 * rx, 0.1 * ry, tilt)
    scene.paint(cavum, 0.7, 1.5)
    scene.paint(scene.oval(*at(-0.33, 0), 0.1 * rx, 0.06 * ry, tilt), 0.03, 1)
    found = [("cavum septi pellucidi", cavum)]
    for side in (-1, 1):
        scene.paint(scene.oval(*at(0.08, side * 0.2), 0.2 * rx, 0.17 * ry, tilt), 0.1, 3)  # thalamus
        scene.paint(scene.stroke([at(-0.4, side * 0.5), at(0.6, side * 0.52)], 0.005), 0.5, 2, 0.7)
        plexus = scene.oval(*at(0.42, side * 0.32), 0.27 * rx, 0.15 * ry, tilt - side * 0.25, 0.004)
        scene.paint(plexus, 0.56, 2)
        found.append(("choroid plexus", plexus))
        if rng.random() < 0.3:
            radius = rng.uniform(0.055, 0.085) * ry / 0.19
            middle = at(rng.normal(0.42, 0.03), side * 0.32)
            cyst = scene.oval(*middle, 0.3 * radius, 0.3 * radius) & plexus
            scene.paint(cyst, 0.02, 1)
            found.append(("choroid plexus cyst", cyst))
    return found


def _shadow(scene: Scene, head: Mask, beam: Field) -> Field:
    """What gets past the sides of the skull, (H, W): the beam grazes them and is bent away."""
    lit = np.interp(beam, np.linspace(-1, 1, 200), _edges(scene, head, beam)).astype(np.float32)
    below = np.cumsum(scene.soften(head, 2), axis=0) > 20 * scene.scale
    return np.where(below, lit, np.float32(1.0))


def _edges(scene: Scene, head: Mask, beam: Field) -> NDArray[np.float64]:
    """Transmission of 200 beams: low at the two that touch the head's sides."""
    reached = beam[head]
    bins = np.linspace(-1, 1, 200)
    low, high = float(reached.min()), float(reached.max())
    dip = np.exp(-(((bins - low) / 0.09) ** 2)) + np.exp(-(((bins - high) / 0.09) ** 2))
    return 1.0 - scene.rng.uniform(0.45, 0.85) * np.clip(dip, 0, 1)


def _scan_sector(scene: Scene, beam: Field, depth: Field, fan: Mask, shadow: Field) -> None:
    """Speckle that widens with depth, gain, log compression, and the marks of the screen."""
    rng = scene.rng
    rows, columns = max(64, int(360 * scene.scale)), max(48, int(210 * scene.scale))
    real, imaginary = (rng.standard_normal((rows, columns), dtype=np.float32) for _ in range(2))
    speckle = np.hypot(real, imaginary)
    speckle = 0.25 * (np.roll(speckle, 1, 0) + 2 * speckle + np.roll(speckle, 1, 1))
    row = np.clip(depth * (rows - 2), 0, rows - 2)
    column = np.clip((beam + 1) / 2 * (columns - 2), 0, columns - 2)
    grain = _bilinear(speckle, row, column)
    gain = 1.12 - rng.uniform(0.2, 0.55) * np.abs(depth - rng.uniform(0.3, 0.6))
    echo = np.clip(scene.pixels[..., 0], 0, 2) * shadow * gain * (0.3 + 0.62 * grain)
    image = np.log1p(4 * np.clip(echo, 0, None)) / np.float32(np.log(5.0))
    scene.pixels[..., 0] = np.where(fan, np.clip(1.1 * image - rng.uniform(0.06, 0.12), 0.0, 1), 0.0)
    for number in range(11):  # the depth scale
        level = 0.07 + 0.085 * number
        scene.paint(scene.stroke([(0.965, level), (0.985 if number % 5 else 0.975, level)], 0.004), 0.7, 0.4)
    if rng.random() < 0.5:
        scene.paint(scene.oval(0.06, 0.06, 0.014, 0.014), 0.8, 0.5)  # the probe's mark


def _bilinear(table: Field, row: Field, column: Field) -> Field:
    """Values of a table between its entries."""
    r, c = row.astype(np.int32), column.astype(np.int32)
    dr, dc = row - r, column - c
    top = table[r, c] * (1 - dc) + table[r, c + 1] * dc
    bottom = table[r + 1, c] * (1 - dc) + table[r + 1, c + 1] * dc
    return top * (1 - dr) + bottom * dr


@lru_cache(maxsize=4)
def _sector(size: int) -> tuple[Field, Field, Mask]:
    """Beam in [-1, 1], depth in [0, 1] and whether the sector holds a pixel, (H, W) each; shared."""
    steps = ((np.arange(size) + 0.5) / size).astype(np.float32)
    down, across = (steps - np.float32(_APEX[1]))[:, None], (steps - np.float32(_APEX[0]))[None, :]
    beam = (np.arctan2(across, down) / _OPENING).astype(np.float32)
    depth = ((np.hypot(across, down) - _NEAR) / (_FAR - _NEAR)).astype(np.float32)
    fan = (np.abs(beam) < 1) & (depth > 0) & (depth < 1)
    return beam, depth, fan
