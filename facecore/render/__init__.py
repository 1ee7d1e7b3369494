"""Cameras, light and the renderer."""

from facecore.render._camera import ndc_to_pixel, pixel_to_ndc
from facecore.render.cameras import Camera, PerspectiveCamera, WeakPerspectiveCamera
from facecore.render.lighting import (
    PhongLights,
    phong_shading,
    sh_from_channel_major,
    sh_from_lambertian,
    sh_from_prediction,
    sh_to_prediction,
)
from facecore.render.pose_fit import fit_weak_perspective
from facecore.render.renderer import Renderer, Rendering
from facecore.render.rotation import euler_to_matrix, matrix_from_300wlp, matrix_to_euler

__all__ = [
    "Camera",
    "PerspectiveCamera",
    "PhongLights",
    "Renderer",
    "Rendering",
    "WeakPerspectiveCamera",
    "euler_to_matrix",
    "fit_weak_perspective",
    "matrix_from_300wlp",
    "matrix_to_euler",
    "ndc_to_pixel",
    "phong_shading",
    "pixel_to_ndc",
    "sh_from_channel_major",
    "sh_from_lambertian",
    "sh_from_prediction",
    "sh_to_prediction",
]
