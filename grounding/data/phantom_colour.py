"""Colour phantoms: eye fundus, dermoscopy, blood smear.

Coordinates are (x, y) fractions of the picture's side, y downwards.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from .phantom_canvas import QA, SIZE, Mask, Point, Scene


def draw_fundus(scene: Scene) -> tuple[QA, ...]:
    """Draw an eye fundus with hard exudates and haemorrhages."""
    rng = scene.rng
    eye = scene.oval(0.5, 0.5, 0.47, 0.47)
    radius = np.hypot(scene.x - 0.5, scene.y - 0.5) / 0.47
    scene.paint(eye, (0.78, 0.36, 0.15), 2)
    side = float(rng.choice([-1.0, 1.0]))
    disc_at, macula_at = (0.5 + side * 0.21, 0.49), (0.5 - side * 0.07, 0.52)
    scene.paint(scene.oval(*macula_at, 0.085, 0.085), (0.5, 0.19, 0.08), 18, 0.8)
    vessels = np.zeros((SIZE, SIZE), dtype=bool)
    for angle in (0.75, 1.25, 2.4, -0.75, -1.25, -2.4):
        for width, colour in ((0.013, (0.5, 0.1, 0.07)), (0.008, (0.62, 0.16, 0.1))):
            tree = _vessel(scene, disc_at, angle + rng.normal(0, 0.12), side, width) & eye
            scene.paint(tree, colour, 1.2, 0.85)
            vessels |= tree
    disc = scene.oval(*disc_at, 0.065, 0.072, jitter=0.002)
    scene.paint(disc, (0.98, 0.8, 0.45), 3)
    scene.paint(scene.oval(disc_at[0] - side * 0.008, disc_at[1], 0.03, 0.034), (1.0, 0.93, 0.72), 4)
    scene.paint(vessels & disc, (0.62, 0.16, 0.1), 1.2, 0.7)
    for centre in rng.uniform((0.34, 0.3), (0.66, 0.7), (int(rng.integers(2, 4)), 2)) - (side * 0.12, 0):
        spots = []
        for _ in range(9):
            x, y = centre + rng.normal(0, 0.018, 2)
            rx, ry = rng.uniform(0.004, 0.012, 2)
            spots.append(scene.oval(x, y, rx, ry))
        exudate = np.any(spots, axis=0)
        scene.paint(exudate, (0.99, 0.88, 0.42), 1.3)
        scene.name("hard exudate", exudate)
    for centre in rng.uniform((0.3, 0.25), (0.7, 0.75), (int(rng.integers(2, 5)), 2)) - (side * 0.1, 0):
        (x, y), (rx, ry) = centre, rng.uniform(0.012, 0.02, 2)
        blood = scene.oval(x, y, rx, ry, 0, 0.0015)
        scene.paint(blood, (0.42, 0.05, 0.04), 1.5, 0.9)
        scene.name("retinal haemorrhage", blood)
    scene.name("optic disc", disc)
    scene.name("retinal vessels", vessels)
    scene.shade(0.015 * scene.noise(10) + 0.012 * scene.noise(1.5), eye)
    scene.pixels *= np.where(eye, 1.05 - 0.4 * radius**3, 0.0)[..., None]
    return (
        ("Are there hard exudates?", "yes", ("hard exudate",)),
        ("Where is the optic disc?", "right" if side > 0 else "left", ("optic disc",)),
    )


def _vessel(scene: Scene, start: Point, angle: float, bend: float, width: float) -> Mask:
    """Walk from the disc outwards, curving around the macula, and branch while getting thinner."""
    drawn = np.zeros((SIZE, SIZE), dtype=bool)
    walks = [(start, angle, width, 44)]
    while walks:
        (x, y), heading, thick, steps = walks.pop()
        path = [(x, y)]
        for step in range(steps):
            turn = bend * np.sign(np.sin(heading)) * 0.03 * (abs(np.cos(heading)) < 0.98)
            heading += turn + scene.rng.normal(0, 0.09)
            x, y = x + 0.012 * np.cos(heading), y - 0.012 * np.sin(heading)
            path.append((x, y))
            if step % 13 == 9 and thick > 0.003:
                fork = float(scene.rng.choice([-0.7, 0.7]))
                walks.append(((x, y), heading + fork, thick * 0.6, steps - step))
        drawn |= scene.stroke(path, thick)
    return drawn


def draw_skin_lesion(scene: Scene) -> tuple[QA, ...]:
    """Draw a pigmented lesion under a dermoscope."""
    rng = scene.rng
    scene.pixels[:] = (0.86, 0.66, 0.57)
    scene.shade(0.025 * scene.noise(40) + 0.015 * scene.noise(5))
    rx, ry = rng.uniform(0.19, 0.28, 2)
    lesion = scene.oval(
        0.5 + rng.normal(0, 0.03), 0.5 + rng.normal(0, 0.03), rx, ry, rng.uniform(0, 3), 0.018
    )
    scene.paint(lesion, (0.55, 0.33, 0.22), 5)
    core = gaussian_filter(lesion.astype(float), 26) ** 2
    scene.pixels += (core * (0.8 + 0.35 * scene.noise(16)))[..., None] * np.array((-0.3, -0.24, -0.16))
    network = np.exp(-((scene.noise(5) / 0.35) ** 2))  # thin level lines of smooth noise make a net
    scene.shade(-0.1 * network * (1 - 0.6 * core), lesion)
    for _ in range(26):
        dot = scene.oval(*rng.uniform(0.25, 0.75, 2), *rng.uniform(0.004, 0.009, 2)) & lesion
        scene.paint(dot, (0.2, 0.11, 0.09), 1.2, 0.8)
    for _ in range(int(rng.integers(4, 9))):  # hairs
        x, y, angle, curve = *rng.uniform(0, 1, 2), rng.uniform(0, 6.3), rng.normal(0, 0.5)
        hair = [
            (x + t * np.cos(angle + curve * t), y + t * np.sin(angle + curve * t))
            for t in np.linspace(0, 0.5, 20)
        ]
        scene.paint(scene.stroke(hair, 0.005), (0.22, 0.14, 0.11), 0.9, 0.75)
    scene.shade(0.012 * scene.noise(0.9) - 0.45 * np.clip(np.hypot(scene.x - 0.5, scene.y - 0.5) - 0.5, 0, 1))
    scene.name("skin lesion", lesion)
    return (("Is there a skin lesion?", "yes", ("skin lesion",)),)


def draw_blood_smear(scene: Scene) -> tuple[QA, ...]:
    """Draw a stained blood smear."""
    rng = scene.rng
    scene.pixels[:] = (0.93, 0.9, 0.86)
    scene.shade(0.012 * scene.noise(50))
    placed: list[tuple[float, float, float]] = []

    def free_place(radius: float) -> Point | None:
        for _ in range(60):
            x, y = rng.uniform(radius + 0.005, 0.995 - radius, 2)
            if all(np.hypot(x - a, y - b) > 0.97 * (radius + r) for a, b, r in placed):
                placed.append((x, y, radius))
                return float(x), float(y)
        return None

    for _ in range(int(rng.integers(1, 3))):
        if (at := free_place(0.115)) is not None:
            scene.name("white blood cell", _white_cell(scene, *at))
    for _ in range(int(rng.integers(24, 34))):
        radius = rng.uniform(0.056, 0.067)
        if (at := free_place(radius)) is not None:
            cell = scene.oval(*at, radius, radius * rng.uniform(0.9, 1.0), rng.uniform(0, 3), 0.0015)
            scene.paint(cell, (0.85, 0.55, 0.53), 1.2, 0.92)
            scene.paint(scene.oval(*at, radius * 0.5, radius * 0.46), (0.93, 0.8, 0.77), 5, 0.95)
            scene.name("red blood cell", cell)
    for _ in range(int(rng.integers(3, 7))):
        if (at := free_place(0.02)) is not None:
            rx, ry = rng.uniform(0.014, 0.019, 2)
            platelet = scene.oval(*at, rx, ry, 0, 0.0025)
            scene.paint(platelet, (0.6, 0.42, 0.68), 1.5, 0.9)
            scene.name("platelet", platelet)
    scene.shade(0.012 * scene.noise(3) + 0.01 * scene.noise(0.8))
    count = sum(phrase == "white blood cell" for phrase, _ in scene.named)
    return (("How many white blood cells are there?", str(count), ("white blood cell",)),)


def _white_cell(scene: Scene, x: float, y: float) -> Mask:
    """Draw a round cell with a lobed purple nucleus and return its outline."""
    rng = scene.rng
    cell = scene.oval(x, y, 0.108, 0.104, rng.uniform(0, 3), 0.003)
    scene.paint(cell, (0.8, 0.74, 0.86), 1.5)
    scene.shade(0.03 * scene.noise(2), cell)
    turn = rng.uniform(0, 6.3)
    lobes = [
        scene.oval(x + 0.05 * np.cos(turn + a), y + 0.05 * np.sin(turn + a), 0.04, 0.034, a, 0.003)
        for a in (0, 1.3, 2.6)
    ]
    bridge = [(x + 0.05 * np.cos(turn + a), y + 0.05 * np.sin(turn + a)) for a in np.linspace(0, 2.6, 12)]
    nucleus = np.any([*lobes, scene.stroke(bridge, 0.03)], axis=0) & cell
    scene.paint(nucleus, (0.4, 0.22, 0.56), 1.8)
    scene.shade(0.05 * scene.noise(3), nucleus)
    return cell
