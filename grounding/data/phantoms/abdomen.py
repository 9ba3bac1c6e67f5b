"""The phantom of an axial CT slice of the upper abdomen, at the height of the kidneys, after contrast.

The patient's right is on the picture's left, the spine below. Body coordinates as in `phantom_canvas`.
"""

from __future__ import annotations

import numpy as np

from .canvas import Mask, Scene

# Outlines, each point (x, y).
# fmt: off
_LIVER = [(0.15, 0.45), (0.2, 0.32), (0.33, 0.25), (0.47, 0.25), (0.6, 0.29), (0.55, 0.36), (0.46, 0.41),
          (0.39, 0.5), (0.33, 0.6), (0.22, 0.64), (0.15, 0.56)]
_STOMACH = [(0.6, 0.33), (0.68, 0.27), (0.78, 0.31), (0.82, 0.4), (0.76, 0.46), (0.66, 0.43)]
_SPLEEN = [(0.82, 0.46), (0.86, 0.54), (0.82, 0.64), (0.73, 0.69), (0.74, 0.63), (0.78, 0.56)]
_PANCREAS = [(0.44, 0.46), (0.55, 0.42), (0.68, 0.47), (0.69, 0.5), (0.56, 0.47), (0.46, 0.51)]
_RIGHT_ADRENAL = [(0.43, 0.565), (0.415, 0.6), (0.4, 0.61), (0.42, 0.57)]
_LEFT_ADRENAL = [(0.58, 0.55), (0.6, 0.575), (0.62, 0.59), (0.592, 0.588), (0.575, 0.6)]
_PORTAL_VEIN = [(0.43, 0.435), (0.455, 0.45), (0.485, 0.458), (0.52, 0.456), (0.56, 0.445), (0.61, 0.447)]
# fmt: on
_FAT, _MUSCLE, _BONE = 0.2, 0.47, 0.92


def draw_abdomen(scene: Scene) -> None:
    """Draw the organs; at random a gallbladder, stones in it, liver tumours, kidney cysts and tumours."""
    rng = scene.rng
    scene.pose(rng.normal(0, 0.03), (rng.normal(1.0, 0.04), rng.normal(1.0, 0.05)), (rng.normal(0, 0.012), 0))
    body = scene.oval(0.5, 0.5, 0.44, 0.34, jitter=0.005)
    _draw_wall(scene, body)
    organs, grey = _organs(scene)
    visible = np.ones_like(body)
    for phrase in reversed(organs):  # the last lies on top
        organs[phrase] = organs[phrase] & visible
        visible &= ~organs[phrase]
        scene.paint(organs[phrase], grey[phrase], 1.1)
    _draw_inside(scene, organs)
    lesions = _lesions(scene, organs)
    spine = _draw_bones(scene)
    for phrase, mask in [("abdomen", body), ("vertebra", spine), *organs.items(), *lesions]:
        scene.name(phrase, mask & body)
    _scan(scene, body)


def _organs(scene: Scene) -> tuple[dict[str, Mask], dict[str, float]]:
    """Outlines from the deepest to the topmost, and their grey values."""
    rng = scene.rng
    drawn: dict[str, tuple[Mask, float]] = {
        "liver": (scene.shape(_LIVER, 0.008), 0.57),
        "stomach": (scene.shape(_STOMACH, 0.008), 0.5),
        "spleen": (scene.shape(_SPLEEN, 0.007), 0.62),
        "pancreas": (scene.shape(_PANCREAS, 0.005), 0.48),
        "right kidney": (
            scene.oval(0.345, 0.65, rng.normal(0.055, 0.005), rng.normal(0.068, 0.005), -0.5, 0.004),
            0.76,
        ),
        "left kidney": (
            scene.oval(0.655, 0.64, rng.normal(0.055, 0.005), rng.normal(0.068, 0.005), 0.5, 0.004),
            0.76,
        ),
        "right adrenal gland": (scene.shape(_RIGHT_ADRENAL, 0.002), 0.52),
        "left adrenal gland": (scene.shape(_LEFT_ADRENAL, 0.002), 0.52),
        "inferior vena cava": (scene.oval(0.445, 0.535, 0.03, 0.023, 0.2, 0.002), 0.64),
        "aorta": (scene.oval(0.525, 0.545, 0.027, 0.027, 0, 0.001), 0.84),
        "portal vein and splenic vein": (scene.stroke(_PORTAL_VEIN, 0.02), 0.72),
    }
    if rng.random() < 0.8:
        rx, ry = rng.uniform(0.026, 0.04, 2)
        drawn["gallbladder"] = (scene.oval(0.36, 0.44, rx, ry, 0.6, 0.003), 0.3)
    level = rng.normal(0, 0.015)
    return {p: mask for p, (mask, _) in drawn.items()}, {p: grey + level for p, (_, grey) in drawn.items()}


def _draw_wall(scene: Scene, body: Mask) -> None:
    """Skin, fat, the muscles of the wall and beside the spine, and loops of bowel in the cavity's fat."""
    rng = scene.rng
    thin = rng.uniform(0.9, 0.96)  # the less, the thicker the fat under the skin
    wall = scene.oval(0.5, 0.495, 0.44 * thin, 0.335 * thin, jitter=0.004)
    cavity = scene.oval(0.5, 0.47, 0.38 * thin + 0.02, 0.255, jitter=0.004) & wall
    scene.paint(body, 0.42, 1)
    scene.paint(scene.oval(0.5, 0.5, 0.433, 0.333) & body, _FAT, 1)
    scene.paint(wall, _MUSCLE, 1.5)
    scene.paint(cavity, _FAT + 0.02, 1.5)
    for x, y, rx, ry in ((0.415, 0.735, 0.075, 0.06), (0.585, 0.735, 0.075, 0.06)):
        scene.paint(scene.oval(x, y, rx, ry, 0.2 * np.sign(x - 0.5)), _MUSCLE, 1.5)
    for x in (0.42, 0.58):  # psoas
        scene.paint(scene.oval(x, 0.655, 0.032, 0.045), _MUSCLE, 1.5)
    for x, y in rng.uniform((0.4, 0.3), (0.74, 0.56), (10, 2)):
        radius = rng.uniform(0.018, 0.034)
        scene.paint(scene.oval(x, y, radius, 0.85 * radius, 0, 0.003) & cavity, rng.uniform(0.48, 0.56), 1.2)
        inner = scene.oval(x, y + 0.15 * radius, 0.7 * radius, 0.5 * radius, 0, 0.002)
        scene.paint(inner, rng.choice((0.4, 0.03, 0.7), p=(0.5, 0.3, 0.2)), 1.2)  # fluid, gas, contrast
    veins = [
        ([(x, y), (x + dx, y + dy)], 0.004)
        for (x, y), (dx, dy) in zip(
            rng.uniform((0.4, 0.3), (0.7, 0.6), (14, 2)), rng.normal(0, 0.03, (14, 2)), strict=True
        )
    ]
    scene.paint(scene.strokes(veins) & cavity, 0.45, 0.8)


def _draw_inside(scene: Scene, organs: dict[str, Mask]) -> None:
    """Vessels of the liver, cortex and fat of the kidneys, gas and fluid in the stomach."""
    rng = scene.rng
    branches = [
        ([(0.43, 0.42), (0.36, 0.38 + bend), (x, y)], 0.006)
        for x, y, bend in zip(
            (0.24, 0.27, 0.3, 0.45), (0.36, 0.47, 0.55, 0.3), rng.normal(0, 0.02, 4), strict=True
        )
    ]
    scene.paint(scene.strokes(branches) & organs["liver"], 0.66, 1.6, 0.8)
    for side, phrase in ((-1, "right kidney"), (1, "left kidney")):
        x, tilt = 0.5 + side * 0.145, side * 0.5
        scene.paint(scene.oval(x, 0.647, 0.036, 0.048, tilt, 0.003) & organs[phrase], 0.66, 3)
        scene.paint(scene.oval(x - side * 0.013, 0.647, 0.017, 0.03, tilt, 0.003) & organs[phrase], 0.3, 2.5)
    scene.paint(
        scene.shape([(0.5 + (x - 0.5), 0.37 + 0.8 * (y - 0.37)) for x, y in _STOMACH]) & organs["stomach"],
        0.4,
        2,
        0.8,
    )
    gas = scene.oval(0.71, 0.325, rng.uniform(0.035, 0.06), 0.026, 0.2, 0.003) & organs["stomach"]
    scene.paint(gas & (scene.y < 0.34), 0.01, 1)


def _lesions(scene: Scene, organs: dict[str, Mask]) -> list[tuple[str, Mask]]:
    """Draw what is wrong, each inside its organ."""
    rng = scene.rng
    found: list[tuple[str, Mask]] = []
    kinds = (  # phrase, organs, chance, most, radii, grey
        ("liver tumour", ("liver",), 0.5, 3, (0.018, 0.048), 0.42),
        ("liver cyst", ("liver",), 0.25, 2, (0.012, 0.026), 0.31),
        ("kidney cyst", ("right kidney", "left kidney"), 0.35, 2, (0.014, 0.024), 0.31),
        ("kidney tumour", ("right kidney", "left kidney"), 0.25, 1, (0.018, 0.03), 0.56),
        ("gallstone", ("gallbladder",), 0.35, 2, (0.007, 0.011), 0.82),
    )
    free = {phrase: mask.copy() for phrase, mask in organs.items()}
    for phrase, hosts, chance, most, radii, grey in kinds:
        for _ in range(int(rng.integers(1, most + 1)) if rng.random() < chance else 0):
            host = str(rng.choice(hosts))
            radius = rng.uniform(*radii)
            if host not in free or (at := scene.place(free[host], radius)) is None:
                continue
            smooth = "cyst" in phrase
            mask = (
                scene.oval(
                    *at,
                    radius,
                    radius * rng.uniform(0.8, 1.0),
                    rng.uniform(0, 3),
                    (0.01 if smooth else 0.07) * radius,
                )
                & free[host]
            )
            scene.paint(mask, grey + rng.normal(0, 0.02), 1.2 if smooth else 2.2)
            if phrase == "liver tumour" and rng.random() < 0.6:  # necrotic centre
                scene.paint(scene.oval(*at, 0.5 * radius, 0.4 * radius, 0, 0.08 * radius), grey - 0.1, 3)
            if phrase == "kidney tumour":
                scene.shade(0.05 * scene.noise(4), mask)
            found.append((phrase, mask))
            free[host] &= ~(scene.soften(mask, 4) > 0.02)  # lesions do not touch
    return found


def _draw_bones(scene: Scene) -> Mask:
    """Draw ribs and a vertebra, and return the vertebra's outline."""
    body = scene.oval(0.5, 0.64, 0.056, 0.05)
    processes = scene.strokes(
        [
            ([(0.44, 0.69), (0.5, 0.735), (0.5, 0.79)], 0.02),
            ([(0.56, 0.69), (0.5, 0.735)], 0.02),
            ([(0.42, 0.73), (0.46, 0.705)], 0.018),
            ([(0.58, 0.73), (0.54, 0.705)], 0.018),
        ]
    )
    spine: Mask = body | processes | scene.oval(0.5, 0.705, 0.045, 0.035)
    scene.paint(spine, _BONE, 1.2)
    marrow = scene.oval(0.5, 0.64, 0.047, 0.041)
    scene.paint(marrow, 0.7, 2)
    scene.shade(0.06 * scene.noise(1.5), marrow)
    scene.paint(scene.oval(0.5, 0.703, 0.025, 0.02), 0.42, 1.2)
    for angle in np.linspace(0.35, 2.8, 8) + scene.rng.normal(0, 0.04, 8):
        for side in (-1, 1):
            x, y = 0.5 + side * 0.385 * np.sin(angle), 0.485 - 0.275 * np.cos(angle)
            along = side * (angle - 0.2)
            scene.paint(scene.oval(x, y, 0.024, 0.0095, along), _BONE, 1)
            scene.paint(scene.oval(x, y, 0.014, 0.0035, along), 0.66, 1)
    return spine


def _scan(scene: Scene, body: Mask) -> None:
    """Table, streaks out of dense bone, rings, and the grain of filtered back-projection."""
    rng = scene.rng
    angle = np.arctan2(scene.y - 0.66, scene.x - 0.5)
    rays = rng.standard_normal(360).astype(np.float32)
    streaks = np.interp(angle, np.linspace(-np.pi, np.pi, 360), rays, period=2 * np.pi)
    near = np.exp(-3.5 * np.hypot(scene.x - 0.5, scene.y - 0.66))
    scene.shade(rng.uniform(0.008, 0.022) * streaks * near, body)
    across = scene.noise(40, 0.8)  # few photons come through from side to side
    scene.shade(rng.uniform(0.004, 0.012) * across + rng.uniform(0.018, 0.034) * scene.noise(1.1), body)
    scene.pixels += 0.006 * np.abs(scene.noise(1.2))[..., None]
    scene.pose()
    y = rng.uniform(0.865, 0.885)
    for offset, grey in ((0.0, 0.3), (0.035, 0.22)):
        curve = [(x, y + offset - (0.16 - 2 * offset) * (x - 0.5) ** 2) for x in np.linspace(0.08, 0.92, 24)]
        scene.paint(scene.stroke(curve, 0.006), grey, 0.8)
