"""Phantoms of two colour pictures: eye fundus (OP) and dermoscopy (DMS).

Sides are the picture's. Body coordinates as in `phantom_canvas`.
"""

from __future__ import annotations

import numpy as np

from .canvas import Field, Line, Mask, Point, Scene


def draw_fundus(scene: Scene) -> None:
    """Draw an eye fundus; at random exudates, haemorrhages, cotton wool spots, a wide cup."""
    rng = scene.rng
    scene.pose(0.0, (1.0, 1.0), tuple(rng.normal(0, 0.008, 2)))
    radius = rng.uniform(0.455, 0.49)
    eye = scene.oval(0.5, 0.5, radius, radius)
    if rng.random() < 0.4:  # cameras cut the top and the bottom
        eye &= np.abs(scene.y - 0.5) < rng.uniform(0.4, 0.44)
    base = np.array((0.74, 0.34, 0.14)) * rng.uniform(0.85, 1.1) + rng.normal(0, 0.025, 3)
    scene.paint(eye, tuple(base), 1.2)
    choroid = scene.noise(8) * scene.noise(24)
    scene.pixels += (0.012 * choroid + 0.03 * scene.noise(45))[..., None] * np.array(
        (0.7, 1, 0.8), np.float32
    )
    side = float(rng.choice([-1.0, 1.0]))
    disc_at = (0.5 + side * rng.uniform(0.17, 0.24), 0.49 + rng.normal(0, 0.012))
    fovea_at = (disc_at[0] - side * 0.28, disc_at[1] + 0.025)
    macula = scene.oval(*fovea_at, 0.08, 0.075, 0, 0.003)
    scene.paint(macula, tuple(base * (0.66, 0.55, 0.6)), 17, 0.85)
    scene.paint(scene.oval(*fovea_at, 0.02, 0.02), tuple(base * 0.45), 8, 0.6)
    vessels = _vessels(scene, disc_at, side, eye)
    disc, cup = _disc(scene, disc_at, side, vessels)
    named = [
        ("retina", eye),
        ("optic disc", disc),
        ("optic cup", cup),
        ("macula", macula),
        ("retinal vessel", vessels),
    ]
    named += _eye_lesions(
        scene, eye & ~(scene.soften(disc, 5) > 0.02) & (_off(scene, (0.5, 0.5)) < 0.92 * radius)
    )
    for phrase, mask in named:
        scene.name(phrase, mask)
    spot = _off(scene, (0.5 + rng.normal(0, 0.08), 0.5 + rng.normal(0, 0.08)))
    light = 1.1 - rng.uniform(0.6, 1.1) * spot - 1.5 * np.clip(_off(scene, (0.5, 0.5)) - 0.4, 0, 1)
    scene.pixels *= light[..., None]
    grain = rng.uniform(0.006, 0.015) * scene.noise(0.9)
    scene.pixels = (scene.pixels + grain[..., None]) * scene.soften(eye, 1.2)[..., None] + 0.012


def _off(scene: Scene, at: Point) -> Field:
    """Distance from a point, (H, W)."""
    return np.hypot(scene.x - np.float32(at[0]), scene.y - np.float32(at[1]))


def _vessels(scene: Scene, disc_at: Point, side: float, eye: Mask) -> Mask:
    """Arteries and veins that leave the disc and bend around the macula; returns them all."""
    rng = scene.rng
    vessels = np.zeros_like(eye)
    for artery in (False, True):
        lines: list[Line] = []
        for angle in (0.75, 1.3, 2.35, -0.75, -1.3, -2.35):
            lines += _vessel(scene, disc_at, angle + rng.normal(0, 0.13), side, 0.0095 if artery else 0.0135)
        tree = scene.strokes(lines) & eye
        scene.paint(tree, (0.56, 0.13, 0.08) if artery else (0.42, 0.08, 0.06), 1.2, 0.82)
        vessels |= tree
        if artery:  # light is reflected along their middle
            scene.paint(
                scene.strokes([(line, 0.002) for line, width in lines if width > 0.007]) & tree,
                (0.78, 0.34, 0.2),
                0.8,
                0.6,
            )
    return vessels


def _vessel(scene: Scene, start: Point, angle: float, bend: float, width: float) -> list[Line]:
    """Walk outwards from the disc, curving around the macula, and branch while getting thinner."""
    rng = scene.rng
    lines: list[Line] = []
    walks = [(start, angle, width, 46)]
    while walks:
        (x, y), heading, thick, steps = walks.pop()
        turns = rng.normal(0, 0.1, steps)
        path = [(x, y)]
        for step in range(steps):
            turn = bend * np.sign(np.sin(heading)) * 0.03 * (abs(np.cos(heading)) < 0.98)
            heading += turn + turns[step]
            x, y = x + 0.012 * np.cos(heading), y - 0.012 * np.sin(heading)
            path.append((x, y))
            if step % 11 == 8:
                lines.append((path[-12:], thick))
                thick *= 0.86
                if thick > 0.0026:
                    walks.append(
                        ((x, y), heading + float(rng.choice([-0.7, 0.7])), thick * 0.62, steps - step)
                    )
        lines.append((path[-12:], thick))
    return lines


def _disc(scene: Scene, at: Point, side: float, vessels: Mask) -> tuple[Mask, Mask]:
    """The optic disc and its cup, which is wide in glaucoma."""
    rng = scene.rng
    disc = scene.oval(*at, rng.uniform(0.056, 0.066), rng.uniform(0.062, 0.074), jitter=0.002)
    scene.paint(disc, (0.95, 0.7, 0.4), 2.5, 0.92)
    share = rng.uniform(0.65, 0.78) if rng.random() < 0.3 else rng.uniform(0.35, 0.5)
    cup = (
        scene.oval(at[0] - side * 0.006 * (1 - share), at[1], 0.06 * share, 0.066 * share, jitter=0.001)
        & disc
    )
    scene.paint(cup, (1.0, 0.9, 0.66), 3)
    scene.paint(vessels & disc, (0.55, 0.14, 0.09), 1.2, 0.7)
    return disc, cup


def _eye_lesions(scene: Scene, free: Mask) -> list[tuple[str, Mask]]:
    """Draw what is wrong with the retina, or nothing."""
    rng = scene.rng
    found: list[tuple[str, Mask]] = []
    kinds = (  # phrase, chance, most, size, colour, opacity, softness
        ("retinal haemorrhage", 0.5, 5, (0.009, 0.022), (0.36, 0.04, 0.03), 0.9, 1.5),
        ("soft exudate", 0.3, 3, (0.014, 0.026), (0.93, 0.78, 0.52), 0.7, 4.0),
        ("hard exudate", 0.5, 4, (0.014, 0.03), (0.99, 0.86, 0.42), 0.95, 1.1),
        ("microaneurysm", 0.5, 7, (0.0038, 0.0052), (0.4, 0.06, 0.04), 0.9, 0.8),
    )
    for phrase, chance, most, radii, colour, opacity, soft in kinds:
        for _ in range(int(rng.integers(1, most + 1)) if rng.random() < chance else 0):
            radius = rng.uniform(*radii)
            if (at := scene.place(free, 1.5 * radius)) is None:
                continue
            if phrase == "hard exudate":  # a cluster of drops is one finding
                drops = rng.normal(at, 0.45 * radius, (int(rng.integers(5, 14)), 2))
                mask = (
                    np.any([scene.oval(x, y, *rng.uniform(0.003, 0.008, 2)) for x, y in drops], axis=0) & free
                )
            else:
                tilt, ratio = rng.uniform(0, 3), rng.uniform(0.6, 1.0)
                mask = scene.oval(*at, radius, radius * ratio, tilt, 0.12 * radius) & free
            scene.paint(mask, colour, soft, opacity)
            found.append((phrase, mask))
            free = free & ~(scene.soften(mask, 4) > 0.02)
    return found


def draw_skin(scene: Scene) -> None:
    """Draw skin under a dermoscope, most often with a pigmented lesion; hairs, ruler, bubbles at random."""
    rng = scene.rng
    tone = np.array((0.87, 0.68, 0.6)) * rng.uniform(0.82, 1.05) + rng.normal(0, 0.02, 3)
    scene.pixels[:] = tone
    pores = np.clip(np.abs(scene.noise(6)) - 1.6, 0, 1)
    scene.shade(0.022 * scene.noise(40) + 0.014 * scene.noise(4) - 0.06 * pores)
    red = np.clip(scene.noise(20), 0, 2)
    scene.pixels += (0.02 * red)[..., None] * np.array((0.4, -1, -0.8), np.float32)
    capillaries = [_hair(scene, 0.08, 0.003) for _ in range(int(rng.integers(0, 12)))]
    if capillaries:
        scene.paint(scene.strokes(capillaries), (0.75, 0.35, 0.33), 1.2, 0.35)
    if rng.random() < 0.85:
        for phrase, mask in _naevus(scene):
            scene.name(phrase, mask)
    _over_the_skin(scene)


def _hair(scene: Scene, length: float, width: float) -> tuple[list[Point], float]:
    """A bent line somewhere."""
    rng = scene.rng
    x, y, angle, bend = *rng.uniform(0, 1, 2), rng.uniform(0, 6.3), rng.normal(0, 1.5)
    steps = np.linspace(0, length, 16)
    return [(x + t * np.cos(angle + bend * t), y + t * np.sin(angle + bend * t)) for t in steps], width


def _naevus(scene: Scene) -> list[tuple[str, Mask]]:
    """A lesion with a pigment network, globules and a blue-white veil, each at random."""
    rng = scene.rng
    rx = rng.uniform(0.1, 0.3)
    centre = (rng.normal(0.5, 0.04), rng.normal(0.5, 0.04))
    lesion = scene.oval(*centre, rx, rx * rng.uniform(0.65, 1), rng.uniform(0, 3), 0.075 * rx)
    soft = rng.uniform(3, 9)
    shade = rng.uniform(0.8, 1.15)
    outside = scene.pixels.copy()
    brown = np.array((0.56, 0.35, 0.25)) * shade
    scene.paint(lesion, tuple(brown), soft)
    patches = scene.soften(lesion, 24) ** 2 * (0.75 + 0.4 * scene.noise(18))
    scene.pixels += np.clip(patches, 0, 2)[..., None] * np.array((-0.27, -0.23, -0.16), np.float32)
    found: list[tuple[str, Mask]] = [("skin lesion", lesion)]
    if rng.random() < 0.6:  # level lines of smooth noise make a net
        x, y = rng.normal(centre, 0.3 * rx)
        part = scene.oval(x, y, 0.7 * rx, 0.6 * rx, rng.uniform(0, 3), 0.09 * rx) & lesion
        net = np.exp(-((scene.noise(4.5) / 0.4) ** 2))
        scene.shade(-0.15 * net, part, 6)
        found.append(("pigment network", part))
    if rng.random() < 0.5:
        dots = []
        angles, reach = rng.uniform(0, 6.3, 24), rx * rng.uniform(0.1, 0.85, 24)
        for x, y in zip(
            centre[0] + reach * np.cos(angles), centre[1] + 0.8 * reach * np.sin(angles), strict=True
        ):
            dots.append(scene.oval(x, y, *rng.uniform(0.005, 0.01, 2)) & lesion)
        globules = np.any(dots, axis=0)
        scene.paint(globules, tuple(0.45 * brown), 1.2, 0.75)
        found.append(("pigment globules", globules))
    if rng.random() < 0.25:
        x, y = rng.normal(centre, 0.25 * rx)
        veil = scene.oval(x, y, 0.4 * rx, 0.35 * rx, rng.uniform(0, 3), 0.06 * rx) & lesion
        scene.paint(veil, (0.5, 0.53, 0.63), 9, 0.6)
    keep = scene.soften(lesion, soft * 1.2)[..., None] ** 0.5  # nothing of it leaves its outline
    scene.pixels = outside + keep * (scene.pixels - outside)
    return found


def _over_the_skin(scene: Scene) -> None:
    """Hairs, gel bubbles, a ruler, the tube's dark rim, noise."""
    rng = scene.rng
    for _ in range(int(rng.choice((0, 3, 8, 16)))):
        points, width = _hair(scene, rng.uniform(0.2, 0.6), rng.uniform(0.002, 0.006))
        scene.paint(
            scene.stroke([(x + 0.003, y + 0.004) for x, y in points], width), (0.5, 0.36, 0.3), 2, 0.35
        )
        scene.paint(scene.stroke(points, width), (0.2, 0.13, 0.1), 0.8, 0.8)
    for _ in range(int(rng.choice((0, 0, 4, 9)))):
        x, y, radius = *rng.uniform(0.03, 0.97, 2), rng.uniform(0.008, 0.025)
        ring = scene.oval(x, y, radius, radius) & ~scene.oval(x, y, 0.8 * radius, 0.8 * radius)
        scene.paint(ring, (0.98, 0.93, 0.9), 1.3, 0.45)
        scene.paint(
            scene.oval(x - 0.4 * radius, y - 0.4 * radius, 0.2 * radius, 0.2 * radius), (1, 1, 1), 1, 0.9
        )
    if rng.random() < 0.35:
        scene.pose(rng.normal(0, 0.03))
        for number in range(41):
            long = 0.045 if number % 10 == 0 else 0.03 if number % 5 == 0 else 0.018
            x = 0.03 + 0.0235 * number
            scene.paint(scene.stroke([(x, 0.97), (x, 0.97 - long)], 0.004), (0.1, 0.1, 0.12), 0.6, 0.85)
        scene.pose()
    away = _off(scene, (0.5, 0.5))
    scene.shade(0.014 * scene.noise(0.9) - rng.uniform(0.2, 0.6) * np.clip(away - 0.42, 0, 1))
    if rng.random() < 0.3:
        scene.pixels *= scene.soften(away < rng.uniform(0.52, 0.64), 5)[..., None]
