"""Draw the pictures of docs/procedural_model.md with facecore itself: python docs/procedural_figures.py [folder]."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import torch
from PIL import Image, ImageDraw

from facecore.morphable.model import MorphableModel
from facecore.morphable.procedural import procedural_model
from facecore.render import PhongLights, Renderer, WeakPerspectiveCamera

CLAY = torch.tensor([0.80, 0.68, 0.60])
BACKGROUND = 0.13


def lights(count: int) -> PhongLights:
    """A key light from above right, a weak fill from the left."""
    position = torch.tensor([[600.0, 700.0, 900.0], [-900.0, 100.0, 600.0]])
    intensity = torch.tensor([[0.85] * 3, [0.25] * 3])
    return PhongLights(
        position=position.expand(count, 2, 3),
        intensity=intensity.expand(count, 2, 3),
        ambient=torch.full((count, 3), 0.12),
        gloss=0.08,
        shininess=12.0,
    )


def draw(
    model: MorphableModel,
    vertices: torch.Tensor,
    albedo: torch.Tensor,
    *,
    yaw: list[float],
    pitch: float = 0.0,
    size: int = 200,
    zoom: float = 1.0,
) -> list[np.ndarray]:
    """Pictures uint8 [size, size, 3] of faces [N, V, 3], drawn at twice the size and averaged."""
    count = vertices.shape[0]
    pose = torch.zeros(count, 6)
    pose[:, 0], pose[:, 1] = np.deg2rad(pitch), torch.deg2rad(torch.tensor(yaw))
    # 0.8 * exp(c_f) NDC units per 100 mm: 240 mm fill the picture.
    pose[:, 3] = float(np.log(zoom / 1.2 / 0.8))
    camera = WeakPerspectiveCamera.from_pose(pose, 2 * size, 2 * size)
    background = torch.full((count, 3, 2 * size, 2 * size), BACKGROUND)
    with torch.no_grad():
        rendering = Renderer(model.triangles, 2 * size, 2 * size)(
            vertices, albedo.expand_as(vertices), camera, background=background, lights=lights(count)
        )
    image = torch.nn.functional.avg_pool2d(rendering.image.clamp(0, 1), 2)
    return [(255 * picture.permute(1, 2, 0)).round().byte().numpy() for picture in image]


def label(picture: np.ndarray, text: str) -> np.ndarray:
    image = Image.fromarray(picture)
    ImageDraw.Draw(image).text((4, 3), text, fill=(235, 235, 210))
    return np.array(image)


def save(path: pathlib.Path, pictures: list[np.ndarray], columns: int) -> None:
    """Tile the pictures and save them with 256 colours, which keeps the file small."""
    blank = np.full_like(pictures[0], round(255 * BACKGROUND))
    pictures = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    image = Image.fromarray(np.concatenate(rows)).quantize(256, dither=Image.Dither.NONE)
    image.save(path, optimize=True)
    print(f"{path.name}: {image.size[0]} x {image.size[1]}, {path.stat().st_size // 1024} KiB")


def views(model: MorphableModel, path: pathlib.Path) -> None:
    shape = model.template[None]
    color = model.albedo(torch.zeros(1, model.num_albedo), clamp=True)
    angles = ((0.0, 0.0), (40.0, 0.0), (85.0, 0.0), (0.0, -35.0))
    clay = [draw(model, shape, CLAY, yaw=[yaw], pitch=pitch, size=270)[0] for yaw, pitch in angles]
    skin = [draw(model, shape, color, yaw=[yaw], pitch=pitch, size=270)[0] for yaw, pitch in angles]
    save(path, clay + skin, 4)


def samples(model: MorphableModel, path: pathlib.Path) -> None:
    drawn = model.sample(16, torch.Generator().manual_seed(3))
    shape, color = model.shape(drawn.identity, drawn.expression), model.albedo(drawn.albedo, clamp=True)
    yaw = [(k % 4 - 1.5) * 22.0 for k in range(16)]
    save(path, draw(model, shape, color, yaw=yaw, size=160, zoom=1.1), 8)


def identity(model: MorphableModel, path: pathlib.Path) -> None:
    """Two standard deviations down and up of the first modes, which have the largest effects."""
    pictures = []
    for name, mode in list(zip(model.identity_names, model.identity_basis))[:42]:
        for sigma in (-2.0, 2.0):
            picture = draw(model, (model.template + sigma * mode)[None], CLAY, yaw=[30.0], size=96)[0]
            pictures.append(label(picture, name[:15] if sigma < 0 else "+2"))
    save(path, pictures, 14)


def expressions(model: MorphableModel, path: pathlib.Path) -> None:
    color = model.albedo(torch.zeros(1, model.num_albedo), clamp=True)
    index = {name: k for k, name in enumerate(model.expression_names)}
    pictures = []
    for name, k in index.items():
        stem, _, side = name.rpartition("_")
        if side == "right" and stem not in ("mouth", "jaw"):
            continue
        weights = torch.zeros(1, model.num_expression)
        weights[0, k] = 1.0
        if name == "mouth_close":
            weights[0, index["jaw_open"]] = 1.0
        shape = model.shape(torch.zeros(1, model.num_identity), weights)
        pictures.append(label(draw(model, shape, color, yaw=[15.0], size=132)[0], name))
    save(path, pictures, 7)


def landmarks(model: MorphableModel, path: pathlib.Path) -> None:
    """Landmarks from the front and the side, and the triangles of the eye and mouth at two sizes."""
    size = 380
    pictures = []
    for yaw in (0.0, 60.0):
        picture = draw(model, model.template[None], CLAY, yaw=[yaw], size=size)[0]
        pose = torch.tensor([[0.0, np.deg2rad(yaw), 0.0, np.log(1.0 / 1.2 / 0.8), 0.0, 0.0]], dtype=torch.float32)
        camera = WeakPerspectiveCamera.from_pose(pose, size, size)
        image = Image.fromarray(picture)
        pen = ImageDraw.Draw(image)
        for index, (u, v) in enumerate(camera.project(model.template[model.landmarks68][None])[0].tolist()):
            pen.ellipse((u - 1.5, v - 1.5, u + 1.5, v + 1.5), fill=(60, 230, 90))
            if yaw == 0.0 and index % 2 == 0 and (index < 31 or index in (36, 42, 48, 54)):
                pen.text((u + 2, v - 11), str(index), fill=(230, 230, 160))
        pictures.append(np.array(image))
    for count in (2500, 10000):
        pictures.append(wireframe(procedural_model(count), size))
    save(path, pictures, 4)


def wireframe(model: MorphableModel, size: int) -> np.ndarray:
    """Triangles drawn as darkened edges, by the barycentric coordinates of each pixel."""
    factor = 2
    pose = torch.tensor([[0.0, np.deg2rad(20.0), 0.0, np.log(1.0 / 1.2 / 0.8), 0.0, 0.0]], dtype=torch.float32)
    camera = WeakPerspectiveCamera.from_pose(pose, factor * size, factor * size)
    renderer = Renderer(model.triangles, factor * size, factor * size)
    background = torch.full((1, 3, factor * size, factor * size), BACKGROUND)
    with torch.no_grad():
        rendering = renderer(
            model.template[None], CLAY.expand(1, model.num_vertices, 3), camera, background=background, lights=lights(1)
        )
    edge = (rendering.fragments.barycentric.min(-1).values < 0.07) & (rendering.alpha > 0)
    image = torch.where(edge[:, None], 0.5 * rendering.image, rendering.image).clamp(0, 1)
    image = torch.nn.functional.avg_pool2d(image, factor)[0]
    return (255 * image.permute(1, 2, 0)).round().byte().numpy()


def main() -> None:
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "figures")
    folder.mkdir(parents=True, exist_ok=True)
    model = procedural_model(10000)
    views(procedural_model(40000), folder / "procedural_views.png")
    samples(model, folder / "procedural_samples.png")
    identity(procedural_model(5000), folder / "procedural_identity.png")
    expressions(model, folder / "procedural_expressions.png")
    landmarks(model, folder / "procedural_landmarks.png")


if __name__ == "__main__":
    main()
