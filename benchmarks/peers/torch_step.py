"""The authors' training step, written for PyTorch from its description, with PyTorch's own warp.

It shares no code with keras_flowreg.

Reference: Xia and Li, "Improving Resistance to Adversarial Deformations by Regularizing Gradients", 2021.
"""

import torch
from torch.nn import functional

from benchmarks.peers.torch_flow import warp


def training_step(network, images, labels, weight, random_start):
    """A function that takes one step of gradient descent on one batch.

    Args:
      network: a `torch.nn.Module`, images to logits; it is trained in place.
      images: `[batch, channels, height, width]` in [0, 1].
      labels: class indices `[batch]`.
      weight: the authors' λ, of the squared norm of the gradient of the batch's mean loss; 0 for a plain step.
      random_start: standard deviation of the flow, in normalized [-1, 1] coordinates.
    """
    network.train().requires_grad_(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    grid = functional.affine_grid(identity, list(images.shape), align_corners=True)

    def plain_loss():
        return functional.cross_entropy(network(images), labels)

    def regularized_loss():
        flow = (random_start * torch.randn_like(grid)).requires_grad_()
        loss = functional.cross_entropy(network(warp(images, grid + flow)), labels)
        (gradient,) = torch.autograd.grad(loss, flow, create_graph=True)
        return loss + weight * gradient.square().sum()

    def step():
        optimizer.zero_grad()
        (regularized_loss() if weight else plain_loss()).backward()
        optimizer.step()

    return step
