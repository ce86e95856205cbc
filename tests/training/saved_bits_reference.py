"""Saved activations at few bits, by hand: the grid element by element, and gradients by plain autograd."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as f
from torch.autograd import Function

from dse.training.network import build_module
from dse.workload.convolutions import BatchNorm, Convolution
from dse.workload.layers import HardSwish


def on_grid(x, bits):
    """Values of a tensor on its own grid, element by element in Python."""
    values = np.asarray(x, dtype=np.float64).reshape(-1)
    least, most = min(values.min(), 0.0), max(values.max(), 0.0)
    scale = np.float32(np.float32(most) - np.float32(least)) / np.float32(2**bits - 1)
    whole = int(np.float32(scale).view(np.uint32))
    whole += -whole % 256  # up to the next number whose lowest eight bits are free
    scale = np.array([whole], dtype=np.uint32).view(np.float32)[0]
    zero = round(float(np.float32(-least) / scale))
    level = [min(max(round(float(np.float32(v) / scale)) + zero, 0), 2**bits - 1) for v in values]
    return (np.float32(np.array(level) - zero) * scale).reshape(np.shape(x))


def straight(x, bits, micro):
    """What is kept of ``x`` (B, ...): its values on the grid of each micro-batch, without a gradient."""
    parts = [on_grid(part.detach().numpy(), bits) for part in x.split(micro)]
    return torch.from_numpy(np.concatenate(parts)).to(x)


class NormedByHand(Function):
    """Batch statistics: the textbook's backward pass over what was kept of the input."""

    @staticmethod
    def forward(ctx, x, gamma, beta, bits):
        axes, across = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
        mean, inverse = x.mean(axes), 1 / torch.sqrt(x.var(axes, unbiased=False) + 1e-5)
        kept = x if bits == 32 else straight(x, bits, len(x))
        ctx.saved = (kept - mean.view(across)) * inverse.view(across), inverse, gamma, axes, across
        return (x - mean.view(across)) * (inverse * gamma).view(across) + beta.view(across)

    @staticmethod
    def backward(ctx, error):
        normed, inverse, gamma, axes, across = ctx.saved
        of_gamma, of_beta = (error * normed).sum(axes), error.sum(axes)
        count = error.numel() // len(gamma)
        inner = error - (of_beta.view(across) + normed * of_gamma.view(across)) / count
        return inner * (gamma * inverse).view(across), of_gamma, of_beta, None


class ByHand:
    """The layers above the cut by plain autograd: weights see what was kept, errors what was computed."""

    def __init__(self, mine, bits, micro, stored_input):
        module = build_module(
            mine.workload, mine._start, first_layer=mine.module.span.start, dtype=torch.float64,
            bn_mode=mine.plan.bn_mode if mine.plan.bn_mode == "batch_stats" else "frozen_stats",
        )  # fmt: skip
        self.net, self.module, self.mode = mine.workload, module, mine.plan.bn_mode
        self.bits, self.micro, self.stored_input = bits, micro, stored_input
        self.channels = {layer: op.channels for layer, op in mine.module._weighted.items()}

    def kept(self, x, layer, whole=True):
        source = self.net.inputs[layer][0]
        if self.bits == 32 or (self.stored_input and source < self.module.span.start):
            return x.detach()
        channels = None if whole else self.channels[layer]
        if channels is None:
            return straight(x, self.bits, self.micro)
        found = x.detach().clone()
        found[:, channels] = straight(x[:, channels], self.bits, self.micro)
        return found

    def logits(self, x):
        values = dict.fromkeys(range(-1, self.module.span.start), x)
        steps = iter(self.module._program._steps)
        slots = {slot: layer for layer, slot in sorted(self.module._program.slots.items(), reverse=True)}
        for operation, sources, slot, _ in steps:
            layer = slots[slot]
            inputs = [values[slots.get(each, -1)] if each else x for each in sources]
            values[layer] = self.run(layer, operation, inputs)
        return values[layer]

    def run(self, layer, operation, inputs):
        kind = self.net.layers[layer]
        x = inputs[0]
        if isinstance(kind, Convolution) or kind.kind == "linear":
            return self.weighted(layer, operation, x)
        if isinstance(kind, HardSwish):
            kept = self.kept(x, layer) + (x - x.detach())
            return f.hardswish(x).detach() + f.hardswish(kept) - f.hardswish(kept).detach()
        if isinstance(kind, BatchNorm):
            return self.normed(kind, layer, x)
        return operation(*inputs)

    def weighted(self, layer, operation, x):
        """y = op(x) in value; its weights' gradient is that at what was kept, its input's that at x."""
        name = self.net.layers[layer].name
        parameters = self.module.tensors
        weight, bias = parameters[f"{name}.weight"], parameters.get(f"{name}.bias")
        weight.requires_grad_(False)
        result = operation(x)
        weight.requires_grad_(True)
        if bias is not None:
            bias.requires_grad_(False)
        own = operation(self.kept(x, layer, whole=False))
        if bias is not None:
            bias.requires_grad_(True)
        return result + own - own.detach()

    def normed(self, kind, layer, x):
        own = {
            part: self.module.tensors[f"{kind.name}.{part}"] for part in ("gamma", "beta", "mean", "variance")
        }
        if self.mode == "batch_stats":
            return NormedByHand.apply(x, own["gamma"], own["beta"], self.bits)
        across = (1, -1, *(1,) * (x.ndim - 2))
        inverse = 1 / torch.sqrt(own["variance"] + 1e-5)
        gamma = own["gamma"]
        centred = (self.kept(x, layer) - own["mean"].view(across)) * inverse.view(across)
        through = (x - own["mean"].view(across)) * (inverse * gamma.detach()).view(across)
        extra = centred * gamma.view(across)
        return through + own["beta"].view(across) + extra - extra.detach()


def gradients_by_hand(mine, latents, labels, bits, micro, stored_input=False):
    """Gradients of every parameter that learns, and those that no channel of which learns masked."""
    hand = ByHand(mine, bits, micro, stored_input)
    for tensor in hand.module.parameters():
        tensor.requires_grad_(True)
    x = torch.from_numpy(latents).double()
    x = x.unsqueeze(2) if x.ndim == 3 else x
    x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
    f.cross_entropy(hand.logits(x).flatten(1), torch.from_numpy(labels)).backward()
    found = {}
    for piece in mine.learning.pieces:
        gradient = hand.module.parameter(piece.key).grad
        mask = 1.0 if piece.mask is None else piece.mask.reshape(gradient.shape)
        found[piece.key] = (gradient * mask).numpy()
    return found
