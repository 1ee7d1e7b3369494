"""load_mesh, save_obj and save_glb: round trips, units, colours, validity, atomic writes, errors naming the file."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import torch
import trimesh
from meshes import bumpy, sphere

from facecore.mesh import cylindrical_uv, load_mesh, save_glb, save_obj
from facecore.mesh import io as mesh_io

SAVE = {".obj": save_obj, ".glb": save_glb}


@pytest.fixture
def mesh():
    return bumpy(6, 5)


@pytest.fixture
def colors(mesh, generator):
    return torch.rand(mesh.num_vertices, 3, generator=generator)


def read_glb(path):
    """The JSON tree and a function that gives an accessor's array, by the letter of the format."""
    content = path.read_bytes()
    magic, version, length, json_length, json_type = struct.unpack("<4sIII4s", content[:20])
    assert (magic, version, length, json_type) == (b"glTF", 2, len(content), b"JSON")
    tree = json.loads(content[20 : 20 + json_length])
    start = 20 + json_length
    binary_length, binary_type = struct.unpack("<I4s", content[start : start + 8])
    assert start % 4 == 0 and binary_type == b"BIN\0" and start + 8 + binary_length == len(content)

    def array(index):
        accessor = tree["accessors"][index]
        view = tree["bufferViews"][accessor["bufferView"]]
        kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[accessor["type"]]
        offset = start + 8 + view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        assert offset % 4 == 0 and accessor["count"] * width * 4 <= view["byteLength"]
        return np.frombuffer(content, kind, accessor["count"] * width, offset).reshape(-1, width)

    return tree, array


@pytest.mark.parametrize("ending", SAVE)
@pytest.mark.parametrize("colored", [False, True])
def test_round_trip_keeps_order_and_millimetres(tmp_path, mesh, colors, ending, colored):
    path = tmp_path / f"face{ending}"
    SAVE[ending](path, mesh.vertices, mesh.triangles, colors if colored else None)
    loaded = load_mesh(path)
    # a metre in float32 holds 1e-7 relative; coordinates here are below 10 mm
    torch.testing.assert_close(loaded.vertices, mesh.vertices, rtol=3e-7, atol=1e-6)
    assert torch.equal(loaded.triangles, mesh.triangles)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", SAVE)
def test_a_texture_comes_back_where_it_was(tmp_path, mesh, ending, generator):
    path, uv = tmp_path / f"face{ending}", cylindrical_uv(mesh)
    texture = torch.rand(3, 8, 16, generator=generator)
    SAVE[ending](path, mesh.vertices, mesh.triangles, uv=uv, texture=texture)
    loaded = load_mesh(path)
    assert torch.equal(loaded.triangles, mesh.triangles)
    torch.testing.assert_close(loaded.uv, uv, rtol=0, atol=1e-6)
    material = trimesh.load(path, force="mesh", process=False).visual.material
    image = material.baseColorTexture if ending == ".glb" else material.image
    expected = np.rint(texture.numpy().transpose(1, 2, 0) * 255)  # row 0 stays on top, where v is near 1
    np.testing.assert_array_equal(np.asarray(image)[..., :3], expected)


def test_obj_holds_millimetres_and_colours(tmp_path, mesh):
    colors = torch.full((mesh.num_vertices, 3), 0.5)
    colors[0] = torch.tensor([-1.0, 0.2, 7.0])  # clamped
    save_obj(tmp_path / "face.obj", mesh.vertices, mesh.triangles, colors)
    lines = (tmp_path / "face.obj").read_text().splitlines()
    assert lines[0] == "# millimetres"
    first = [float(number) for number in next(line for line in lines if line.startswith("v ")).split()[1:]]
    assert first == pytest.approx([*mesh.vertices[0].tolist(), 0.0, 0.2, 1.0], abs=1e-6)
    assert sum(line.startswith("f ") for line in lines) == mesh.num_triangles


def test_glb_is_valid_in_metres_with_linear_colours(tmp_path, mesh):
    colors = torch.zeros(mesh.num_vertices, 3)
    colors[:, 1], colors[:, 2] = 0.5, 1.0
    colors[0, 0] = 0.04
    save_glb(tmp_path / "face.glb", mesh.vertices, mesh.triangles, colors)
    tree, array = read_glb(tmp_path / "face.glb")
    (primitive,) = tree["meshes"][0]["primitives"]
    attributes = primitive["attributes"]
    positions = array(attributes["POSITION"])
    np.testing.assert_allclose(positions, mesh.vertices.numpy() / 1000, rtol=1e-6)
    bounds = tree["accessors"][attributes["POSITION"]]
    assert bounds["min"] == pytest.approx(positions.min(0).tolist()) and bounds["max"] == pytest.approx(
        positions.max(0).tolist()
    )
    np.testing.assert_array_equal(array(primitive["indices"]).reshape(-1, 3), mesh.triangles.numpy())
    np.testing.assert_allclose(np.linalg.norm(array(attributes["NORMAL"]), axis=1), 1, rtol=1e-5)
    # IEC 61966-2-1: 0.5 is 0.2140411 in linear light; below 0.04045 the curve is x / 12.92
    np.testing.assert_allclose(array(attributes["COLOR_0"])[0], [0.04 / 12.92, 0.2140411, 1.0], rtol=1e-5)
    assert tree["accessors"][attributes["COLOR_0"]]["type"] == "VEC3"
    material = tree["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert material["metallicFactor"] == 0.0
    assert set(attributes) == {"POSITION", "NORMAL", "COLOR_0"}


def test_a_scene_with_a_transform_is_loaded_where_it_stands(tmp_path):
    ball = trimesh.creation.icosphere(1, 0.1)
    scene = trimesh.Scene()
    scene.add_geometry(ball, transform=trimesh.transformations.translation_matrix([1.0, 0, 0]))
    (tmp_path / "ball.glb").write_bytes(scene.export(file_type="glb"))
    loaded = load_mesh(tmp_path / "ball.glb")
    torch.testing.assert_close(loaded.vertices.mean(0), torch.tensor([1000.0, 0, 0]), rtol=1e-5, atol=1e-3)


def test_polygons_are_split_and_seams_reported(tmp_path):
    path = tmp_path / "quads.obj"
    corners = "v 0 0 0\nv 1 0 0\nv 2 0 0\nv 0 1 0\nv 1 1 0\nv 2 1 0\n"
    path.write_text(corners + "f 1 2 5 4\nf 2 3 6 5\n")
    loaded = load_mesh(path)
    assert loaded.num_triangles == 4 and loaded.uv is None
    pairs = "".join(
        f"vt {u} {v}\n" for u, v in [(0, 0), (0.5, 0), (1, 0), (0, 1), (0.5, 1), (1, 1), (0.1, 0), (0.1, 1)]
    )
    path.write_text(corners + pairs + "f 1/1 2/2 5/5 4/4\nf 2/2 3/3 6/6 5/5\n")
    torch.testing.assert_close(load_mesh(path).uv[4], torch.tensor([0.5, 1.0]))
    path.write_text(corners + pairs + "f 1/1 2/2 5/5 4/4\nf 2/7 3/3 6/6 5/8\n")
    with pytest.warns(UserWarning, match=r"quads.obj: has texture seams; loaded without texture coordinates"):
        seamed = load_mesh(path)
    assert seamed.num_vertices == 6 and seamed.uv is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("face.txt", b"", r"face.txt: cannot read .txt; use .obj, .ply"),
        ("face.glb", b"not a model", r"face.glb: cannot be read as GLB"),
        ("face.ply", b"ply\nformat ascii 1.0\n", r"face.ply: cannot be read as PLY"),
        ("face.obj", b"# nothing\n", r"face.obj: vertices must have shape \[V, 3\] with V > 0, got \[0, 3\]"),
        ("face.obj", b"v 0 0 0\nv 1 x 0\n", r"face.obj: line 2 is not OBJ: 'v 1 x 0'"),
        ("face.obj", b"v 0 0 0\nf 1 2 3\n", r"face.obj: line 2 is not OBJ: .*v 2 does not exist, 1 were given so far"),
        ("face.obj", b"v 0 0 0\nf 0 1 1\n", r"v 0 does not exist"),
        ("face.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 2\n", r"face.obj: triangles must have three different"),
        ("face.obj", b"v 0 0 0\nv 1 nan 0\nv 0 1 0\nf 1 2 3\n", r"face.obj: vertices must be finite"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_mesh(tmp_path / name)


def test_missing_and_multiple_meshes_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.obj: no such file"):
        load_mesh(tmp_path / "none.obj")
    balls = trimesh.Scene([trimesh.creation.icosphere(1), trimesh.creation.icosphere(2)])
    (tmp_path / "two.glb").write_bytes(balls.export(file_type="glb"))
    with pytest.raises(ValueError, match=r"two.glb: must hold exactly one triangle mesh, found 2"):
        load_mesh(tmp_path / "two.glb")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "face.stl"}, r"face.stl: the name must end in"),
        ({"path": "none/face"}, r"the folder .*none does not exist"),
        ({"vertices_mm": torch.zeros(4, 2)}, r"vertices_mm must have shape \[V, 3\] with V > 0, got \[4, 2\]"),
        ({"vertices_mm": torch.full((42, 3), torch.nan)}, "vertices_mm must be floating point and finite"),
        ({"triangles": torch.zeros(0, 3, dtype=torch.int32)}, r"triangles must have shape \[T, 3\] with T > 0"),
        ({"triangles": torch.tensor([[0, 1, 42]])}, "triangles must be integers from 0 to 41"),
        ({"colors": torch.zeros(42)}, r"colors must have shape \[42, 3\], got \[42\]"),
        ({"colors": torch.full((42, 3), torch.inf)}, "colors must be floating point and finite"),
        ({"uv": torch.zeros(42, 2)}, "uv and texture must be given together"),
        ({"uv": torch.zeros(3, 2), "texture": torch.zeros(3, 4, 4)}, r"uv must have shape \[42, 2\], got \[3, 2\]"),
        ({"uv": torch.zeros(42, 2), "texture": torch.zeros(4, 4, 3)}, r"texture must have shape \[3, H, W\]"),
        (
            {"uv": torch.zeros(42, 2), "texture": torch.zeros(3, 4, 4), "colors": torch.zeros(42, 3)},
            "give either colors or a texture",
        ),
    ],
)
@pytest.mark.parametrize("ending", SAVE)
def test_saving_refuses(tmp_path, ending, change, message):
    ball = sphere(1)
    arguments = {"vertices_mm": ball.vertices, "triangles": ball.triangles, **change}
    path = tmp_path / arguments.pop("path", "face")
    path = path if path.suffix else path.with_suffix(ending)
    with pytest.raises(ValueError, match=message) as error:
        SAVE[ending](path, **arguments)
    assert str(path) in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", SAVE)
def test_a_failed_write_leaves_the_old_file(tmp_path, mesh, ending, monkeypatch):
    path = tmp_path / f"face{ending}"
    SAVE[ending](path, mesh.vertices, mesh.triangles)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("facecore.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        SAVE[ending](path, mesh.vertices * 2, mesh.triangles)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_srgb_curve_is_continuous_and_monotone():
    values = mesh_io._srgb_to_linear(np.linspace(0, 1, 10001))
    assert values[0] == 0 and values[-1] == 1
    assert (np.diff(values) > 0).all() and np.diff(values).max() < 3e-4


def test_loads_a_real_textured_face(data_dir):
    mesh = load_mesh(data_dir / "meshes/mediapipe_canonical_face/canonical_face_model.obj")
    assert (mesh.num_vertices, mesh.num_triangles) == (468, 898)
    assert mesh.uv is not None
    assert mesh.vertices[0].tolist() == pytest.approx([0.0, -3.406404, 5.979507])


def test_obj_vertices_keep_their_indices(tmp_path):
    # two objects, two materials, negative indices, normals, vertex colours, an unused vertex, a pentagon
    path = tmp_path / "face.obj"
    path.write_text(
        "mtllib none.mtl\nv 9 9 9\nv 0 0 0\nv 1 0 0\nv 0 -1 0\n\no left\nusemtl skin\nf -3//1 -1//1 -2//1\n"
        "vn 0 0 1\nv 1 1 0\nv 0 1 0 0.1 0.2 0.3\nv -1 0 0\no right\nusemtl lips\nf 2 3 5 6 7\n"
    )
    mesh = load_mesh(path)
    assert mesh.vertices[:, 0].tolist() == [9, 0, 1, 0, 1, 0, -1]
    assert mesh.triangles.tolist() == [[1, 3, 2], [1, 2, 4], [1, 4, 5], [1, 5, 6]]
    assert mesh.uv is None
