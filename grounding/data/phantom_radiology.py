"""Grey phantoms: chest X-ray, abdominal CT, brain MR, fetal ultrasound.

Coordinates are (x, y) fractions of the picture's side, y downwards; the patient's right is on the
picture's left.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .phantom_canvas import QA, Mask, Scene, mirror

# Outlines, each point (x, y).
# fmt: off
_LIVER = [(0.15, 0.45), (0.2, 0.32), (0.33, 0.25), (0.47, 0.25), (0.6, 0.29), (0.55, 0.36), (0.46, 0.41),
          (0.39, 0.5), (0.33, 0.6), (0.22, 0.64), (0.15, 0.56)]
_STOMACH = [(0.6, 0.33), (0.68, 0.27), (0.78, 0.31), (0.82, 0.4), (0.76, 0.46), (0.66, 0.43)]
_SPLEEN = [(0.82, 0.46), (0.86, 0.54), (0.82, 0.64), (0.73, 0.69), (0.74, 0.63), (0.78, 0.56)]
_PANCREAS = [(0.44, 0.46), (0.55, 0.42), (0.68, 0.47), (0.69, 0.5), (0.56, 0.47), (0.46, 0.51)]
_TORSO = [(0.33, -0.1), (0.3, 0.1), (0.04, 0.22), (0.02, 0.6), (0.06, 1.1), (0.94, 1.1), (0.98, 0.6),
          (0.96, 0.22), (0.7, 0.1), (0.67, -0.1)]
_RIGHT_LUNG = [(0.36, 0.14), (0.24, 0.2), (0.15, 0.4), (0.11, 0.62), (0.12, 0.78), (0.24, 0.72), (0.37, 0.76),
               (0.41, 0.6), (0.41, 0.4), (0.42, 0.22)]
_LEFT_LUNG = [*mirror(_RIGHT_LUNG[:4]), (0.89, 0.8), (0.78, 0.75), (0.72, 0.77), (0.68, 0.6),
              *mirror(_RIGHT_LUNG[8:])]
_HEART = [(0.46, 0.46), (0.55, 0.44), (0.62, 0.52), (0.71, 0.66), (0.72, 0.74), (0.6, 0.79), (0.46, 0.77),
          (0.42, 0.66)]
_VENTRICLE = [(0.49, 0.5), (0.475, 0.43), (0.44, 0.36), (0.415, 0.36), (0.435, 0.43), (0.45, 0.52), 
              (0.42, 0.62), (0.445, 0.63)]
# fmt: on


def draw_chest(scene: Scene) -> tuple[QA, ...]:
    """Draw a frontal chest X-ray with an opacity in one lung."""
    rng = scene.rng
    body = scene.shape(_TORSO)
    lungs = {"right lung": scene.shape(_RIGHT_LUNG, 0.006), "left lung": scene.shape(_LEFT_LUNG, 0.006)}
    heart = scene.shape(_HEART, 0.006)
    scene.paint(body, 0.55, 9)
    _draw_lungs(scene, lungs["right lung"] | lungs["left lung"])
    scene.paint(heart, 0.72, 4, 0.95)
    scene.paint(scene.oval(0.5, 0.45, 0.055, 0.5), 0.7, 12, 0.8)
    _draw_chest_bones(scene, body)
    scene.paint(scene.stroke([(0.5, 0.0), (0.497, 0.33)], 0.04), 0.42, 5, 0.6)  # trachea
    side = str(rng.choice(["right", "left"]))
    spot = scene.oval(0.24 if side == "right" else 0.8, rng.uniform(0.34, 0.62), *rng.uniform(0.05, 0.08, 2))
    opacity = spot & lungs[f"{side} lung"]
    scene.shade(0.3 * gaussian_filter(opacity.astype(float), 7) * (1 + 0.12 * scene.noise(4)))
    scene.shade(0.035 * scene.noise(30) + 0.012 * scene.noise(1.0), body)
    for phrase, lung in lungs.items():
        scene.name(phrase, lung & ~heart)
    scene.name("heart", heart)
    scene.name("lung opacity", opacity)
    return (
        ("Which lung is more opaque?", f"{side} lung", (f"{side} lung", "lung opacity")),
        ("Is the heart visible?", "yes", ("heart",)),
    )


def _draw_lungs(scene: Scene, lungs: Mask) -> None:
    """Draw both lungs, with vessels that fan out from each hilum."""
    rng = scene.rng
    scene.paint(lungs, 0.2, 3)
    for side in (-1, 1):
        for angle in np.linspace(-1.2, 1.3, 11) + rng.normal(0, 0.06, 11):
            start, reach = np.array([0.5 + side * 0.1, 0.44]), rng.uniform(0.14, 0.27)
            along = np.array([side * np.cos(angle), np.sin(angle)])
            bend = rng.normal(0, 0.02, 2)
            path = [tuple(start + along * reach * t + bend * t * t) for t in np.linspace(0, 1, 8)]
            scene.paint(scene.stroke(path, 0.009) & lungs, 0.42, 2.5, 0.6)


def _draw_chest_bones(scene: Scene, body: Mask) -> None:
    """Draw vertebrae, ribs and clavicles, as faint as the rest shines through them."""
    for level in np.arange(0.02, 1.0, 0.062):
        scene.paint(scene.oval(0.5, level, 0.033, 0.02), 0.8, 4, 0.25)
    for side in (-1, 1):
        out = np.linspace(0.06, 0.42, 30)
        for level in np.arange(0.1, 0.7, 0.072):
            rib = zip(0.5 + side * out, level + 0.55 * out**2 - 0.12 * out + 2.2 * out**4, strict=True)
            scene.paint(scene.stroke(list(rib), 0.02) & body, 0.75, 2.2, 0.24)
        clavicle = zip(0.5 + side * out, 0.185 - 0.22 * out + 0.25 * out**2, strict=True)
        scene.paint(scene.stroke(list(clavicle), 0.024) & body, 0.75, 3, 0.4)


def draw_abdomen(scene: Scene) -> tuple[QA, ...]:
    """Draw an axial slice at the height of the kidneys."""
    rng = scene.rng
    body = scene.oval(0.5, 0.5, 0.44, 0.34, jitter=0.004)
    wall = scene.oval(0.5, 0.5, 0.405, 0.3, jitter=0.004)
    cavity = scene.oval(0.5, 0.47, 0.37, 0.255, jitter=0.004)
    table = scene.stroke([(x, 0.885 - 0.12 * (x - 0.5) ** 2) for x in np.linspace(0.1, 0.9, 30)], 0.012)
    organs: dict[str, tuple[Mask, float]] = {
        "liver": (scene.shape(_LIVER, 0.007), 0.6),
        "stomach": (scene.shape(_STOMACH, 0.006), 0.45),
        "spleen": (scene.shape(_SPLEEN, 0.006), 0.66),
        "pancreas": (scene.shape(_PANCREAS, 0.004), 0.5),
        "gallbladder": (scene.oval(0.36, 0.44, 0.038, 0.028, 0.6, 0.003), 0.32),
        "right kidney": (scene.oval(0.345, 0.65, 0.055, 0.068, -0.5, 0.004), 0.74),
        "left kidney": (scene.oval(0.655, 0.64, 0.055, 0.068, 0.5, 0.004), 0.74),
        "inferior vena cava": (scene.oval(0.445, 0.535, 0.03, 0.023, 0.2, 0.002), 0.64),
        "aorta": (scene.oval(0.525, 0.545, 0.026, 0.026, 0, 0.001), 0.85),
    }
    for mask, grey in ((body, 0.22), (wall, 0.48), (cavity, 0.25), (table, 0.35)):
        scene.paint(mask, grey, 1.5)
    for x, y, rx, ry in ((0.41, 0.72, 0.07, 0.06), (0.59, 0.72, 0.07, 0.06), (0.5, 0.63, 0.09, 0.09)):
        scene.paint(scene.oval(x, y, rx, ry), 0.48, 2)  # muscles beside the spine
    for x, y in rng.uniform((0.42, 0.3), (0.62, 0.4), (9, 2)):
        scene.paint(scene.oval(x, y, 0.026, 0.022, 0, 0.003) & cavity, rng.uniform(0.38, 0.5), 1.5)
    visible = np.ones_like(body)
    for phrase, (mask, grey) in reversed(organs.items()):  # the last lies on top
        scene.paint(mask & visible, grey, 1.2)
        scene.name(phrase, mask & visible)
        visible &= ~mask
    for x, tilt in ((0.362, -0.5), (0.638, 0.5)):  # the kidneys' central fat
        scene.paint(scene.oval(x, 0.647, 0.018, 0.034, tilt), 0.4, 3)
    scene.paint(scene.oval(0.72, 0.32, 0.05, 0.022, 0.3), 0.02, 1.5)  # air in the stomach
    spine = _draw_abdomen_bones(scene)
    scene.name("spine", spine)
    scene.name("body", body)
    scene.shade(0.012 * scene.noise(6) + 0.028 * scene.noise(0.9), body)
    return (
        ("Where is the liver?", "on the right side of the patient", ("liver",)),
        ("Are both kidneys visible?", "yes", ("right kidney", "left kidney")),
        ("Is the spleen visible?", "yes", ("spleen",)),
    )


def _draw_abdomen_bones(scene: Scene) -> Mask:
    """Draw ribs and a vertebra, and return the vertebra's outline."""
    body, spinous = scene.oval(0.5, 0.64, 0.055, 0.05), scene.oval(0.5, 0.74, 0.028, 0.055)
    spine = body | spinous | scene.oval(0.5, 0.72, 0.08, 0.016)
    scene.paint(spine, 0.9, 1.2)
    scene.paint(scene.oval(0.5, 0.645, 0.042, 0.036), 0.75, 3)
    scene.paint(scene.oval(0.5, 0.705, 0.02, 0.017), 0.4, 1.2)
    for angle in np.linspace(0.3, 2.84, 8):
        for side in (-1, 1):
            x, y = 0.5 + side * 0.385 * np.sin(angle), 0.485 - 0.275 * np.cos(angle)
            scene.paint(scene.oval(x, y, 0.022, 0.009, side * (angle - 0.2)), 0.88, 1)
    return spine


def draw_brain(scene: Scene) -> tuple[QA, ...]:
    """Draw an axial brain slice; about two seeds in three have a tumour."""
    rng = scene.rng
    for scale, grey in ((1.0, 0.6), (0.952, 0.06), (0.88, 0.14)):  # scalp, skull, fluid
        scene.paint(scene.oval(0.5, 0.5, 0.385 * scale, 0.455 * scale), grey, 1.5)
    brain = scene.oval(0.5, 0.502, 0.325, 0.392, jitter=0.003)
    depth = np.hypot((scene.x - 0.5) / 0.325, (scene.y - 0.502) / 0.392)
    folds = np.abs(scene.noise(7) + 0.5 * np.sin(18 * depth))
    scene.paint(brain, 0.5, 1.5)
    scene.shade(0.16 * np.clip(1.6 - 2.1 * depth + 0.16 * scene.noise(9), 0, 1), brain)  # white matter
    scene.shade(-0.26 * np.exp(-((folds / 0.22) ** 2)) * np.clip((depth - 0.55) / 0.3, 0, 1), brain)  # sulci
    for line in ([(0.5, 0.115), (0.5, 0.36)], [(0.5, 0.64), (0.5, 0.89)]):  # the cleft between the halves
        scene.paint(scene.stroke(line, 0.006), 0.15, 1.2)
    for points in (_VENTRICLE, mirror(_VENTRICLE)):
        scene.paint(scene.shape(points, 0.003), 0.12, 1.5)
    for x in (0.425, 0.575):
        scene.paint(scene.oval(x, 0.5, 0.035, 0.06), 0.52, 6, 0.6)
    qa: tuple[QA, ...] = (("Is there a brain tumour?", "no", ()),)
    if rng.random() < 0.7:
        side = str(rng.choice(["right", "left"]))
        x = 0.5 + (-0.17 if side == "right" else 0.17) + rng.normal(0, 0.012)
        y, r = rng.uniform(0.33, 0.66), rng.uniform(0.045, 0.075)
        tumour = scene.oval(x, y, r, 0.85 * r, rng.uniform(0, 3), 0.006)
        scene.paint(scene.oval(x, y, 1.9 * r, 1.7 * r, 0, 0.02) & brain, 0.36, 6, 0.7)  # oedema
        scene.paint(tumour, 0.93, 1.5)
        scene.paint(scene.oval(x, y, 0.55 * r, 0.45 * r, 0.4, 0.006), 0.34, 3)
        scene.name("brain tumour", tumour)
        qa = (
            ("Is there a brain tumour?", "yes", ("brain tumour",)),
            ("On which side is the tumour?", side, ("brain tumour",)),
        )
    scene.name("brain", brain)
    scene.shade(0.014 * scene.noise(14) + 0.018 * scene.noise(0.8), scene.oval(0.5, 0.5, 0.385, 0.455))
    return qa


def draw_fetal_head(scene: Scene) -> tuple[QA, ...]:
    """Draw a sector scan with a fetal head."""
    rng = scene.rng
    apex = (0.5, -0.12)
    distance = np.hypot(scene.x - apex[0], scene.y - apex[1])
    angle = np.arctan2(scene.x - apex[0], scene.y - apex[1])
    fan = (np.abs(angle) < 0.62) & (distance > 0.2) & (distance < 1.07)
    x, y, tilt = 0.5 + rng.normal(0, 0.03), 0.52 + rng.normal(0, 0.03), rng.uniform(-0.5, 0.5)
    rx, ry = rng.uniform(0.24, 0.29), rng.uniform(0.175, 0.21)
    head = scene.oval(x, y, rx, ry, tilt, 0.002)
    inner = scene.oval(x, y, rx - 0.022, ry - 0.022, tilt)
    cos, sin = np.cos(tilt), np.sin(tilt)
    scene.paint(fan, 0.25, 2)
    scene.shade(0.1 * scene.noise(26), fan)
    scene.paint(scene.oval(x, y, rx + 0.05, ry + 0.05, tilt, 0.01) & fan, 0.07, 9)  # amniotic fluid
    scene.paint(head, 0.8, 2)
    scene.paint(inner, 0.17, 3)
    scene.shade(0.06 * scene.noise(11), inner)
    scene.paint(
        scene.stroke([(x - cos * r, y - sin * r) for r in (-0.8 * rx, 0.8 * rx)], 0.006), 0.55, 2, 0.8
    )
    for side in (-1, 1):
        scene.paint(scene.oval(x - sin * side * 0.06, y + cos * side * 0.06, 0.08, 0.016, tilt), 0.07, 4, 0.8)
    beam = np.abs(np.cos(np.arctan2(scene.y - y, scene.x - x) - np.arctan2(y - apex[1], x - apex[0])))
    scene.pixels *= (0.62 + 0.5 * np.where(head & ~inner, beam, 0.9))[
        ..., None
    ]  # echo is weak along the beam
    grain = np.abs(scene.noise(1.1) + 1j * scene.noise(1.1)) ** 0.8 * 0.8  # Rayleigh speckle
    scene.pixels *= (grain * (1.15 - 0.45 * distance))[..., None] * 1.25
    scene.pixels[~fan] = 0.0
    scene.name("fetal head", head)
    return (("Is the fetal head visible?", "yes", ("fetal head",)),)
