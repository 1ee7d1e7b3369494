"""Adam for parameters of any layout in memory, with the gradient's length bounded in the same pass."""

from __future__ import annotations

from typing import Any

import torch


class Adam(torch.optim.Adam):
    """torch's fused Adam, given every tensor as the dense memory that it is.

    On CPUs torch's kernel (2.13) copies each gradient that lies channels-last, which makes the step of a convolution
    network nearly twice as long, and pairs a parameter with a gradient of another layout by place in memory: a wrong
    step, without an error. Here parameters, gradients and moments are handed over in the order of the parameter's
    memory. States and parameter groups are those of torch.optim.Adam(fused=True).
    """

    def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
        super().__init__(parameters, lr=lr, fused=True)

    @torch.no_grad()
    def clipped_step(self, norm: torch.Tensor, largest: float) -> None:
        """A step with the whole gradient, of length `norm` (a scalar), shortened to `largest` if it is longer.

        The kernel divides as it reads; nothing waits for a GPU to see whether it must.
        """
        self.grad_scale = (norm / largest).clamp_min(1)  # torch's protocol for scaled gradients (GradScaler)
        try:
            self.step()
        finally:
            del self.grad_scale

    def _init_group(self, group: Any, params: Any, grads: Any, *states: Any) -> Any:
        result = super()._init_group(group, params, grads, *states)  # fills the lists
        for i, parameter in enumerate(params):
            order = sorted(range(parameter.ndim), key=parameter.stride, reverse=True)
            for tensors in (params, grads, *states[:2]):  # states: both moments, a third of amsgrad, numbers of steps
                tensors[i] = tensors[i].detach().permute(order)
            grads[i] = grads[i].contiguous()  # a copy only where its layout is not the parameter's
        return result
