"""Affine maps between pictures."""

from __future__ import annotations

import torch

from facecore.render.affine import apply_affine, compose_affine, invert_affine, warp


def test_affine_helpers_in_batches(generator):
    first, second = torch.rand(2, 4, 2, 3, generator=generator, dtype=torch.float64) + torch.eye(2, 3)
    points = torch.rand(4, 7, 2, generator=generator, dtype=torch.float64)
    both = apply_affine(compose_affine(second, first), points)
    torch.testing.assert_close(both, apply_affine(second, apply_affine(first, points)))
    torch.testing.assert_close(apply_affine(invert_affine(first), apply_affine(first, points)), points)


def test_warp_moves_pixels_and_their_border(generator):
    image = torch.rand(1, 1, 5, 7, generator=generator)
    shift = torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]], dtype=torch.float64)  # right by 2, down by 1
    moved = warp(image, shift, 5, 7)
    torch.testing.assert_close(moved[..., 1:, 2:], image[..., :-1, :-2])
    torch.testing.assert_close(moved[..., 1:, 0], image[..., :-1, 0])  # the edge goes on
    dark = warp(image, shift, 5, 7, padding_mode="zeros")
    torch.testing.assert_close(dark[..., 1:, 2:], image[..., :-1, :-2])
    assert float(dark[..., 1:, 0].abs().max()) == 0.0
