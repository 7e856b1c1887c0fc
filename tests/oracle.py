"""Warping and its derivatives in plain NumPy, pixel by pixel: an independent statement of the convention."""

import math

import numpy as np


def warp(images, flow):
    """output[b, i, j] = images[b, i - dy, j - dx], bilinear, the nearest edge pixel outside."""
    return _for_each_pixel(images, flow, lambda image, y, x: _bilinear(image, y, x))


def image_gradients(images, flow, lattice):
    """The derivatives of the interpolant along y and x where the flow samples: `[..., channels, 2]`."""

    def gradients(image, y, x):
        return np.stack([_derivative(image, y, x, axis, lattice) for axis in (0, 1)], axis=-1)

    return _for_each_pixel(images, flow, gradients)


def flow_gradients(images, flow, upstream, lattice):
    """∂loss/∂flow for upstream = ∂loss/∂output."""
    return -np.sum(image_gradients(images, flow, lattice) * upstream[..., np.newaxis], axis=-2)


def _for_each_pixel(images, flow, function):
    batch, height, width = flow.shape[:3]
    return np.array(
        [
            [
                [function(images[b], i - float(flow[b, i, j, 0]), j - float(flow[b, i, j, 1])) for j in range(width)]
                for i in range(height)
            ]
            for b in range(batch)
        ]
    )


def _pixel(image, i, j):
    return image[min(max(i, 0), image.shape[0] - 1), min(max(j, 0), image.shape[1] - 1)].astype(np.float64)


def _bilinear(image, y, x):
    i, j = math.floor(y), math.floor(x)
    down, right = y - i, x - j
    top = (1 - right) * _pixel(image, i, j) + right * _pixel(image, i, j + 1)
    bottom = (1 - right) * _pixel(image, i + 1, j) + right * _pixel(image, i + 1, j + 1)
    return (1 - down) * top + down * bottom


def _derivative(image, y, x, axis, lattice):
    if lattice == "central":
        return (_derivative(image, y, x, axis, "forward") + _derivative(image, y, x, axis, "backward")) / 2
    position = (y, x)[axis]
    # Between two lattice points the interpolant is linear: its slope is their difference.
    before = math.floor(position) if lattice == "forward" else math.ceil(position) - 1
    ends = [(before, x), (before + 1, x)] if axis == 0 else [(y, before), (y, before + 1)]
    return _bilinear(image, *ends[1]) - _bilinear(image, *ends[0])
