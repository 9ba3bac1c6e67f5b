"""The phantom of a frontal chest X-ray (CR): shadows that add up, as in a projection.

The patient's right is on the picture's left. Body coordinates as in `phantom_canvas`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .canvas import Field, Line, Mask, Scene, mirror

# Outlines, each point (x, y).
# fmt: off
_TORSO = [(0.36, -0.3), (0.37, -0.02), (0.31, 0.09), (0.08, 0.16), (-0.03, 0.3), (0.02, 0.6), (0.05, 1.3),
          (0.95, 1.3), (0.98, 0.6), (1.03, 0.3), (0.92, 0.16), (0.69, 0.09), (0.63, -0.02), (0.64, -0.3)]
_RIGHT_LUNG = [(0.37, 0.135), (0.3, 0.14), (0.22, 0.23), (0.15, 0.42), (0.11, 0.62), (0.105, 0.79),
               (0.16, 0.74), (0.26, 0.7), (0.37, 0.75), (0.405, 0.6), (0.41, 0.4), (0.425, 0.24)]
_LEFT_LUNG = [*mirror(_RIGHT_LUNG[:5]), (0.9, 0.815), (0.83, 0.76), (0.75, 0.735), (0.66, 0.775),
              *mirror(_RIGHT_LUNG[9:])]
_HEART = [(0.455, 0.47), (0.55, 0.45), (0.615, 0.53), (0.69, 0.66), (0.705, 0.74), (0.62, 0.785),
          (0.46, 0.775), (0.41, 0.68), (0.42, 0.56)]
_CLAVICLE = [(0.46, 0.195), (0.38, 0.17), (0.29, 0.145), (0.2, 0.125), (0.1, 0.1)]
# fmt: on


def draw_chest(scene: Scene) -> None:
    """Draw lungs, heart, bones; at random opacities, nodules, an effusion, an enlarged heart."""
    rng = scene.rng
    scene.pose(rng.normal(0, 0.02), tuple(rng.normal(1.0, 0.03, 2)), tuple(rng.normal(0, 0.012, 2)))
    body = scene.shape(_TORSO, 0.006)
    right, left = scene.shape(_RIGHT_LUNG, 0.006), scene.shape(_LEFT_LUNG, 0.006)
    heart = _heart(scene)
    depth = 1.0 - 0.6 * (2 * np.abs(scene.x - 0.5)) ** 2.5 + 0.18 * np.clip((scene.y - 0.66) / 0.2, 0, 1)
    scene.shade(0.56 * depth, body, 9)
    for lung in (right, left):
        scene.add(lung, rng.normal(-0.36, 0.02), 4)
    scene.shade(0.045 * scene.noise(28), body)
    scene.add(scene.oval(0.5, 0.45, 0.075, 0.6), 0.2, 14)  # the mediastinum
    scene.add(scene.oval(0.565, 0.36, 0.042, 0.06), 0.14, 4)  # the arch of the aorta
    scene.add(scene.stroke([(0.56, 0.38), (0.565, 0.6), (0.53, 0.8)], 0.05), 0.06, 5)
    scene.paint(heart, 0.8, 4, 0.8)
    trachea = scene.stroke([(0.5, 0.0), (0.497, 0.18), (0.49, 0.34)], 0.036)
    scene.add(trachea, -0.1, 2.5)
    _vessels(scene, right | left)
    scene.add(scene.oval(0.71, 0.82, rng.uniform(0.04, 0.07), 0.035), rng.uniform(-0.18, -0.05), 5)  # gas
    if rng.random() < 0.5:  # breasts
        for x in (0.27, 0.73):
            scene.add(scene.oval(x, 0.68, 0.17, 0.13), 0.06, 6)
    clavicles = _bones(scene, body)
    lungs = {"right lung": right & ~heart, "left lung": left & ~heart}
    lesions = _lesions(scene, lungs)
    named = {"thorax": body, **lungs, "heart": heart, "trachea": trachea, "right clavicle": clavicles[0]}
    for phrase, mask in [*named.items(), ("left clavicle", clavicles[1]), *lesions]:
        scene.name(phrase, mask & body)
    _expose(scene)


def _heart(scene: Scene) -> Mask:
    """The heart's outline; in two of five it is wider than half of the chest."""
    wide = scene.rng.uniform(1.45, 1.7) if scene.rng.random() < 0.4 else scene.rng.uniform(0.95, 1.2)
    return scene.shape([(0.5 + (x - 0.5) * wide, y) for x, y in _HEART], 0.005)


def _vessels(scene: Scene, lungs: Mask) -> None:
    """Vessels that fan out from each hilum, thinner outwards, and the hilum itself."""
    rng = scene.rng
    for side in (-1, 1):
        hilum = np.array([0.5 + side * 0.105, 0.45 - 0.015 * side])
        lines: list[Line] = []
        for angle in np.linspace(-1.25, 1.35, 12) + rng.normal(0, 0.08, 12):
            ahead = np.array([side * np.cos(angle), np.sin(angle)])
            reach, bend = rng.uniform(0.14, 0.29), rng.normal(0, 0.045, 2)
            path = [tuple(hilum + ahead * reach * t + bend * t * t) for t in np.linspace(0, 1, 8)]
            fork = [
                tuple(np.array(path[4]) + ahead[::-1] * 0.3 * reach * t * rng.choice((-1, 1))) for t in (0, 1)
            ]
            lines += [(path[:4], 0.011), (path[3:6], 0.007), (path[5:], 0.004), (fork, 0.004)]
        scene.add(scene.strokes(lines) & lungs, 0.09, 2)
        scene.add(scene.oval(float(hilum[0]), float(hilum[1]), 0.032, 0.06, side * 0.3, 0.005), 0.09, 7)


def _bones(scene: Scene, body: Mask) -> tuple[Mask, Mask]:
    """Vertebrae, ribs, shoulder blades; returns the right and the left clavicle."""
    rng = scene.rng
    discs = [scene.oval(0.5, level, 0.034, 0.021) for level in np.arange(0.02, 1.0, 0.058)]
    scene.add(np.any(discs, axis=0), 0.07, 2)
    tilt, clavicles = rng.normal(0.55, 0.05), []
    for side in (-1, 1):
        ribs, fronts = [], []
        out = np.linspace(0.05, 0.43, 24)
        for number, level in enumerate(np.arange(0.09, 0.72, 0.07)):
            reach = out[out < 0.25 + 0.035 * number] if number < 5 else out
            drop = level + tilt * reach**2 - 0.14 * reach + 2.0 * reach**4
            ribs.append(list(zip(0.5 + side * reach, drop, strict=True)))
            if 2 <= number <= 7:  # the front end, rising outwards to inwards
                steps = np.linspace(0, 1, 8)
                fronts.append([(0.5 + side * (0.4 - 0.26 * t), level + 0.1 + 0.16 * t) for t in steps])
        for width, amount in ((0.021, 0.085), (0.012, -0.035)):  # the rim of a tube is denser
            scene.add(scene.strokes([(rib, width) for rib in ribs]) & body, amount, 1.3)
        scene.add(scene.strokes([(front, 0.024) for front in fronts]) & body, 0.03, 2.5)
        blade = [(0.5 + side * x, y) for x, y in ((0.33, 0.2), (0.4, 0.3), (0.36, 0.47))]
        scene.add(scene.stroke(blade, 0.014), 0.07, 2.5)
        bone = [(0.5 + side * (0.5 - x), y) for x, y in _CLAVICLE]
        clavicle = scene.stroke(bone, 0.026)
        scene.add(clavicle & body, 0.17, 1.5)
        scene.add(scene.stroke(bone, 0.013), -0.04, 2)
        clavicles.append(clavicle)
    return clavicles[0], clavicles[1]


def _lesions(scene: Scene, lungs: dict[str, Mask]) -> list[tuple[str, Mask]]:
    """Draw what is wrong, each in one lung: opacities, nodules, an effusion."""
    rng = scene.rng
    found: list[tuple[str, Mask]] = []
    free = {phrase: lung.copy() for phrase, lung in lungs.items()}
    if rng.random() < 0.35:
        side = str(rng.choice(list(lungs)))
        level = rng.uniform(0.6, 0.73) - 3.0 * np.clip(np.abs(scene.x - 0.5) - 0.18, 0, 1) ** 2  # a meniscus
        fluid = lungs[side] & (scene.y > level)
        scene.add(fluid, 0.34, 5)
        found.append(("pleural effusion", fluid))
        free[side] &= ~fluid
    wanted = [("lung opacity", rng.integers(1, 3) if rng.random() < 0.6 else 0)]
    wanted += [("lung nodule", rng.integers(1, 4) if rng.random() < 0.4 else 0)]
    for phrase, count in wanted:
        for _ in range(count):
            side = str(rng.choice(list(lungs)))
            radius = rng.uniform(0.045, 0.08) if phrase == "lung opacity" else rng.uniform(0.012, 0.025)
            if (at := scene.place(free[side], 0.8 * radius)) is None:
                continue
            jitter = 0.12 * radius if phrase == "lung opacity" else 0.05 * radius
            mask = (
                scene.oval(*at, radius, radius * rng.uniform(0.75, 1.1), rng.uniform(0, 3), jitter)
                & free[side]
            )
            if phrase == "lung opacity":
                patchy = scene.soften(mask, 9) * (rng.uniform(0.2, 0.32) * (1 + 0.25 * scene.noise(7)))
                scene.shade(patchy)
            else:
                scene.add(mask, rng.uniform(0.16, 0.24), 2)
            found.append((phrase, mask))
            free[side] &= ~mask
    return found


def _expose(scene: Scene) -> None:
    """Film curve, quantum noise, collimated edges and the side marker."""
    rng = scene.rng
    level: Field = np.clip(scene.pixels, 0.0, 1.25)
    scene.pixels = 1.0 - np.exp(-rng.uniform(1.25, 1.7) * level ** rng.uniform(1.05, 1.25))
    scene.pixels += ((0.009 + 0.02 * (1 - scene.pixels[..., 0])) * scene.noise(0.7))[..., None]
    scene.pixels += 0.015
    scene.pose(rng.normal(0, 0.012))
    if rng.random() < 0.6:
        x, top, bottom = rng.uniform(0.455, 0.495), rng.uniform(0.0, 0.02), rng.uniform(0.0, 0.04)
        open_field = (np.abs(scene.x - 0.5) < x) & (scene.y > top) & (scene.y < 1 - bottom)
        scene.pixels *= (0.03 + 0.97 * scene.soften(open_field, 1.5))[..., None]
    canvas = Image.new("L", (scene.size, scene.size))
    side = str(rng.choice(["R", "L"]))
    x, y = (0.07 if side == "R" else 0.9), rng.uniform(0.05, 0.09)
    place = (scene.size * x, scene.size * y)
    bold = round(scene.scale)
    ImageDraw.Draw(canvas).text(place, side, fill=255, font_size=26 * scene.scale, stroke_width=bold)
    scene.paint(np.asarray(canvas) > 127, 0.97, 0.7)
