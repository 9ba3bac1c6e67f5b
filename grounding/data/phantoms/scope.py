"""Phantoms of two pictures through a lens: colonoscopy (ES) and a stained blood smear (SM).

Sides are the picture's. Body coordinates as in `phantom_canvas`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from .canvas import Field, Line, Mask, Point, Scene, tight_box


def draw_colon(scene: Scene) -> None:
    """Look down the bowel; at random polyps and a diverticulum on its wall."""
    rng = scene.rng
    centre = rng.normal(0.5, 0.07, 2)
    dx, dy = scene.x - np.float32(centre[0]), scene.y - np.float32(centre[1])
    distance, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
    view = _view(scene)
    lumen = _wall(scene, distance, angle, view)
    grain, wet = scene.noise(7), scene.noise(2.4)
    lights = [(wet > 2.3) | ((wet > 1.5) & (grain > 1.7))]
    free = view & ~lumen & (distance > 0.15) & (np.hypot(scene.x - 0.5, scene.y - 0.5) < 0.43)
    named: list[tuple[str, Mask]] = [("colon", view), ("bowel lumen", lumen)]
    for _ in range(int(rng.choice((0, 1, 2, 3), p=(0.25, 0.4, 0.25, 0.1)))):
        radius = rng.uniform(0.04, 0.14)
        if (at := scene.place(free, radius)) is None:
            continue
        polyp, light = _polyp(scene, at, radius, centre, (wet, grain))
        named.append(("polyp", polyp))
        lights.append(light)
        free = free & ~(scene.soften(polyp, 8) > 0.02)
    if rng.random() < 0.25 and (at := scene.place(free, 0.04)) is not None:
        hole = scene.oval(*at, rng.uniform(0.02, 0.032), rng.uniform(0.02, 0.032), rng.uniform(0, 3), 0.002)
        scene.paint(scene.oval(*at, 0.042, 0.038), (0.88, 0.56, 0.48), 6, 0.7)
        scene.paint(hole, (0.13, 0.04, 0.04), 2.5, 0.95)
        named.append(("diverticulum", hole))
    _light(scene, lights, lumen, view)
    for phrase, mask in named:
        scene.name(phrase, mask & view)


def _view(scene: Scene) -> Mask:
    """The part of the screen that shows the picture: a square with cut corners."""
    cut = scene.rng.uniform(0.66, 0.8)
    across, down = np.abs(scene.x - 0.5), np.abs(scene.y - 0.5)
    view: Mask = (across < 0.48) & (down < 0.48) & (across + down < cut)
    return view


def _wall(scene: Scene, distance: Field, angle: Field, view: Mask) -> Mask:
    """Mucosa lit by the scope, ring folds one behind the other, vessels; returns the dark lumen."""
    rng = scene.rng
    tone = np.array((0.9, 0.52, 0.43)) * rng.uniform(0.88, 1.08) + rng.normal(0, 0.025, 3)
    light, lumen = _folds(scene, distance, angle)
    lumen &= view
    light *= 1 + 0.05 * scene.noise(14) + 0.025 * scene.noise(2.5)
    scene.pixels[:] = light[..., None] * tone.astype(np.float32)
    scene.pixels += (0.02 * scene.noise(24))[..., None] * np.array((0.5, -1, -0.6), np.float32)
    scene.paint(scene.strokes(_vessels(scene)) & view, (0.62, 0.2, 0.18), 1.4, 0.3)
    scene.paint(lumen, (0.07, 0.02, 0.02), 9, 0.8)
    return lumen


def _folds(scene: Scene, distance: Field, angle: Field) -> tuple[Field, Mask]:
    """Light on the wall, (H, W), with ring folds one behind the other, and what lies behind the last."""
    rng = scene.rng
    coarse, lean = distance[::2, ::2], 0.05 * scene.noise(40)  # light is smooth: half the resolution will do
    at = ((angle + np.float32(np.pi)) * np.float32(255 / (2 * np.pi))).astype(np.int32)
    light = np.clip(0.3 + 1.8 * coarse, 0, 1) - 0.4 * np.clip(coarse - 0.4, 0, 1)
    radii = rng.uniform(0.08, 0.12) * np.cumprod([1, *rng.uniform(1.35, 1.75, 4)])
    phase, lobes = rng.uniform(0, 6.3), int(rng.choice((3, 3, 4)))
    lumen = np.zeros(distance.shape, dtype=np.bool_)
    table = np.linspace(-np.pi, np.pi, 256)
    for number, radius in enumerate(radii.tolist()):
        phase += rng.normal(0, 0.4)
        outline = 1 + rng.uniform(0.08, 0.17) * np.cos(lobes * table + phase)
        for times in (1, 2, 5, 7):
            outline += rng.normal(0, 0.03) * np.cos(times * table + rng.uniform(0, 6.3))
        reach = np.clip(
            0.7 + 0.7 * np.cos(table + rng.uniform(0, 6.3)) - 0.1 * number, 0.1 if number else 1, 1
        )
        inverse = (1 / (outline * radius)).astype(np.float32)
        if number == 0:
            lumen = distance * inverse[at] + lean < 1
        across = coarse * inverse[at[::2, ::2]] + lean[::2, ::2]
        strength = reach.astype(np.float32)[at[::2, ::2]]
        behind = 1 / (
            1 + np.exp(np.clip((across - 1) / 0.022, -30, 30))
        )  # hidden by the fold, and in its shade
        light *= 1 - 0.55 * strength * behind * np.exp(-np.clip(1 - across, 0, 1) / 0.2)
        light += min(max(radius / 0.2, 0.35), 1) * 0.17 * strength * np.exp(-(((across - 1.09) / 0.075) ** 2))
    large = Image.fromarray(light).resize((scene.size, scene.size), Image.Resampling.BICUBIC)
    return np.array(large), lumen


def _vessels(scene: Scene) -> list[Line]:
    """Thin branching lines."""
    rng = scene.rng
    lines: list[Line] = []
    for x, y in rng.uniform(0.05, 0.95, (9, 2)):
        heading = rng.uniform(0, 6.3)
        for branch in range(3):
            turns = rng.normal(heading, 0.6) + np.cumsum(rng.normal(0, 0.25, 14))
            path = np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * 0.012, axis=0) + np.array((x, y))
            lines.append(([(float(a), float(b)) for a, b in path], 0.004 - 0.0008 * branch))
    return lines


def _polyp(
    scene: Scene, at: Point, radius: float, centre: np.ndarray, grains: tuple[Field, Field]
) -> tuple[Mask, Mask]:
    """A dome on the wall, lit from the lens, and where it glints."""
    rng = scene.rng
    ratio, tilt = rng.uniform(0.7, 1.0), rng.uniform(0, 3.1)
    polyp = scene.oval(*at, radius, radius * ratio, tilt, 0.05 * radius)
    away = np.array(at) - centre
    away = away / np.hypot(*away)
    shadow = scene.oval(
        at[0] + 0.16 * radius * away[0],
        at[1] + 0.16 * radius * away[1],
        1.07 * radius,
        1.07 * radius * ratio,
        tilt,
    )
    scene.paint(shadow, (0.3, 0.09, 0.08), 5, 0.55)
    x1, y1, x2, y2 = (int(edge) for edge in tight_box(polyp))
    part = np.s_[max(0, y1 - 4) : y2 + 4, max(0, x1 - 4) : x2 + 4]
    dx, dy = (scene.x[part] - at[0]) / radius, (scene.y[part] - at[1]) / radius
    cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / ratio
    height = np.sqrt(np.clip(1.12 - along * along - across * across, 0, None))
    fine, rough = grains[0][part], grains[1][part]
    facing = 0.42 + 0.5 * height - 0.16 * (dx * float(away[0]) + dy * float(away[1]))
    facing *= 1 + 0.05 * fine + 0.06 * rough
    facing -= np.clip(np.abs(fine) - 1.3, 0, 1) * rng.uniform(0, 0.3)  # pits
    around = scene.pixels[shadow].mean(axis=0)
    colour = 0.5 * np.array((0.93, 0.46, 0.4)) + 0.46 * around / around.max() + rng.normal(0, 0.03, 3)
    alpha = scene.soften(np.ascontiguousarray(polyp[part]), 1.5)[..., None]
    scene.pixels[part] += alpha * (facing[..., None] * colour.astype(np.float32) - scene.pixels[part])
    glint = np.zeros_like(polyp)
    glint[part] = np.hypot(dx + 0.3 * away[0], dy + 0.3 * away[1]) < 0.16 + 0.12 * rough
    return polyp, glint & polyp


def _light(scene: Scene, lights: list[Mask], lumen: Mask, view: Mask) -> None:
    """Reflections of the lamp on wet mucosa, vignette, noise, the dark frame and its inset."""
    rng = scene.rng
    wet = lights[0] & (scene.pixels[..., 0] > 0.72) & ~lumen
    for glint in [wet, *lights[1:]]:
        scene.paint(glint, (1.0, 0.97, 0.95), 1.6, 0.9)
    away = np.hypot(scene.x - 0.5, scene.y - 0.5)
    scene.pixels *= (1.05 - rng.uniform(0.9, 1.6) * np.clip(away - 0.28, 0, 1) ** 1.5)[..., None]
    scene.pixels += (0.012 * scene.noise(0.9))[..., None]
    scene.pixels = np.clip(scene.pixels, 0, 1) * scene.soften(view, 1)[..., None] + 0.01
    if rng.random() < 0.4:  # the inset that shows how the scope lies
        box = (scene.x < 0.3) & (scene.y > 0.74)
        scene.paint(box, (0.05, 0.35, 0.2), 0.6)
        loop = [(0.15 + 0.08 * np.cos(t), 0.87 + 0.07 * np.sin(1.4 * t)) for t in np.linspace(0, 4.5, 30)]
        scene.paint(scene.stroke(loop, 0.012), (0.75, 0.85, 0.8), 1)
        view &= ~box


def draw_blood_smear(scene: Scene) -> None:
    """Draw red and white cells and platelets; at random parasites in some of the red ones."""
    rng = scene.rng
    scene.pixels[:] = np.array((0.93, 0.9, 0.87)) * rng.uniform(0.92, 1.03) + rng.normal(0, 0.012, 3)
    scene.shade(0.012 * scene.noise(50))
    eosin = np.clip(np.array((0.85, 0.56, 0.54)) + rng.normal(0, 0.04, 3), 0, 0.92)
    azure = np.clip(np.array((0.42, 0.24, 0.57)) + rng.normal(0, 0.05, 3), 0.05, 0.8)
    zoom = rng.uniform(0.8, 1.15)
    places = _Places(scene, zoom)
    for at, _ in places.take(int(rng.integers(0, 4)), (0.085, 0.115)):
        cell, nucleus = _white_cell(scene, at, 0.1 * zoom * rng.uniform(0.9, 1.05), azure)
        scene.name("white blood cell", cell)
        scene.name("cell nucleus", nucleus)
    _red_cells(scene, places.take(int(rng.integers(20, 40)), (0.052, 0.066)), eosin, azure)
    for at, radius in places.take(int(rng.integers(0, 7)), (0.014, 0.02)):
        platelet = scene.oval(*at, radius, radius * rng.uniform(0.7, 1), rng.uniform(0, 3), 0.1 * radius)
        scene.paint(platelet, tuple(azure * 0.5 + 0.36), 1.5, 0.9)
        scene.paint(
            scene.oval(*at, 0.5 * radius, 0.4 * radius, 0, 0.1 * radius), tuple(azure * 0.8 + 0.12), 1.5, 0.7
        )
        scene.name("platelet", platelet)
    light = (
        1.04
        - rng.uniform(0.1, 0.5)
        * np.hypot(scene.x - rng.uniform(0.3, 0.7), scene.y - rng.uniform(0.3, 0.7)) ** 2
    )
    scene.pixels *= light[..., None]
    scene.shade(0.01 * scene.noise(3) + 0.012 * scene.noise(0.8))


class _Places:
    """Hands out places for round cells that at most touch."""

    def __init__(self, scene: Scene, zoom: float) -> None:
        self._rng, self._zoom = scene.rng, zoom
        self._taken = np.zeros((0, 3))

    def take(self, count: int, radii: tuple[float, float]) -> list[tuple[Point, float]]:
        """Return up to `count` (centre, radius) that are free and whole in the picture."""
        found: list[tuple[Point, float]] = []
        for radius in self._rng.uniform(*radii, count) * self._zoom:
            tries = self._rng.uniform(radius * 1.1 + 0.004, 0.996 - radius * 1.1, (80, 2))
            gaps = np.hypot(*(tries[:, None] - self._taken[None, :, :2]).transpose(2, 0, 1))
            fits = (gaps > 0.98 * (radius + self._taken[:, 2])).all(axis=1)
            if fits.any():
                x, y = tries[int(fits.argmax())]
                self._taken = np.vstack([self._taken, (x, y, radius)])
                found.append(((float(x), float(y)), float(radius)))
        return found


def _red_cells(scene: Scene, places: list[tuple[Point, float]], eosin: np.ndarray, azure: np.ndarray) -> None:
    """Discs paler in the middle, painted together; in one of three smears some hold a parasite."""
    rng = scene.rng
    infected = rng.random() < 0.35
    cells, pale, parasites = [], [], []
    for at, radius in places:
        cell = scene.oval(*at, radius, radius * rng.uniform(0.88, 1.0), rng.uniform(0, 3), 0.03 * radius)
        cells.append(cell)
        scene.name("red blood cell", cell)
        middle = rng.normal(at, 0.06 * radius)
        pale.append((middle, radius * rng.uniform(0.4, 0.52)))
        if infected and rng.random() < 0.25:
            x, y = rng.normal(at, 0.2 * radius)
            ring = scene.oval(x, y, 0.34 * radius, 0.3 * radius, 0, 0.03 * radius)
            hole = scene.oval(x, y, 0.19 * radius, 0.16 * radius)
            dot = scene.oval(x + 0.3 * radius, y, 0.12 * radius, 0.12 * radius)
            parasites.append((ring & ~hole | dot) & cell)
            scene.name("malaria parasite", parasites[-1])
    if not cells:
        return
    disc = np.any(cells, axis=0)
    scene.paint(disc, tuple(eosin), 1.3, 0.93)
    rim = scene.soften(disc, 1) - scene.soften(disc, 6)
    scene.shade(-0.12 * np.clip(rim, 0, 1), disc)
    for (x, y), radius in pale:
        scene.paint(scene.oval(x, y, radius, 0.93 * radius), tuple(eosin * 0.4 + 0.55), 6, 0.9)
    if parasites:
        scene.paint(np.any(parasites, axis=0), tuple(azure), 1, 0.92)


def _white_cell(scene: Scene, at: Point, radius: float, azure: np.ndarray) -> tuple[Mask, Mask]:
    """A round cell with a lobed nucleus or a large round one; returns cell and nucleus."""
    rng, (x, y) = scene.rng, at
    cell = scene.oval(x, y, radius, radius * rng.uniform(0.92, 1), rng.uniform(0, 3), 0.03 * radius)
    scene.paint(cell, tuple(azure * 0.25 + (0.7, 0.68, 0.72)), 1.5)
    scene.shade(0.035 * scene.noise(2), cell)
    turn = rng.uniform(0, 6.3)
    if rng.random() < 0.35:  # a lymphocyte
        shift = 0.1 * radius
        nucleus = scene.oval(
            x + shift * np.cos(turn),
            y + shift * np.sin(turn),
            0.76 * radius,
            0.72 * radius,
            turn,
            0.03 * radius,
        )
    else:
        arc = np.linspace(0, rng.uniform(2.2, 3.4), int(rng.integers(3, 5)))
        middles = [(x + 0.48 * radius * np.cos(turn + a), y + 0.48 * radius * np.sin(turn + a)) for a in arc]
        lobes = [
            scene.oval(*middle, 0.37 * radius, 0.31 * radius, turn + a, 0.03 * radius)
            for middle, a in zip(middles, arc, strict=True)
        ]
        nucleus = np.any([*lobes, scene.stroke(middles, 0.26 * radius)], axis=0)
    nucleus &= cell
    scene.paint(nucleus, tuple(azure), 1.6)
    scene.shade(0.06 * scene.noise(4), nucleus)
    return cell, nucleus
