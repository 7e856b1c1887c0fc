"""The authors' multi-step attack over flows, written for PyTorch from its description, with PyTorch's own warp.

It shares no code with keras_flowreg: flows are normalized, x before y, and added to the sampling grid.

Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021.
"""

import torch
from torch.nn import functional


def sign_ascent(network, images, labels, epsilon, steps):
    """`steps` sign steps of epsilon / steps on the flow, from zero.

    Args:
      network: a `torch.nn.Module`, images to logits.
      images: `[batch, channels, height, width]` in [0, 1].
      labels: class indices `[batch]`.
      epsilon: the largest component of a displacement, in normalized [-1, 1] coordinates.
      steps: the authors' K.

    Returns:
      `(last, any)`: bool `[batch]` each: whether the last iterate is misclassified, and whether one of the
      iterates is, the image as it is among them.
    """
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = functional.affine_grid(identity, list(images.shape), align_corners=True)
    flow = torch.zeros_like(grid)
    fooled = torch.zeros_like(labels, dtype=torch.bool)
    for _ in range(steps):
        flow.requires_grad_()
        logits = network(warp(images, grid + flow))
        fooled |= logits.argmax(1) != labels
        (gradient,) = torch.autograd.grad(functional.cross_entropy(logits, labels), flow)
        flow = (flow.detach() + epsilon / steps * gradient.sign()).clamp(-epsilon, epsilon)
    with torch.no_grad():
        last = network(warp(images, grid + flow)).argmax(1) != labels
    return last, fooled | last


def warp(images, grid):
    """Samples the images at the grid's positions; outside them it is black."""
    sampled = functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    return sampled.clamp(0, 1)
