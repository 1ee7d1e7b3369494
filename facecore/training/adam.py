"""Adam for parameters of any layout in memory, with the gradient's length bounded in the same pass."""

from __future__ import annotations

from typing import Any

import torch

MOMENTS = ("exp_avg", "exp_avg_sq")


class Adam(torch.optim.Adam):
    """torch's fused Adam, given every tensor as the dense memory that it is.

    On CPUs torch's kernel (2.13) copies each gradient that lies channels-last, which makes the step of a convolution
    network nearly twice as long, and pairs a parameter with a gradient or moment of another layout by place in memory:
    a wrong step, without an error. Here gradients and moments are handed over in the order of the parameter's memory.
    States and parameter groups are those of torch.optim.Adam(fused=True). Raises ValueError for a parameter whose
    memory has gaps or is shared among its elements.
    """

    def __init__(self, parameters: Any, lr: float = 1e-3) -> None:
        super().__init__(parameters, lr=lr, fused=True)

    @torch.no_grad()
    def clipped_step(self, norm: torch.Tensor, largest: float) -> None:
        """A step with the whole gradient, of length `norm` (a scalar), shortened to `largest` if it is longer.

        The kernel divides as it reads, and may write the gradients back so; nothing waits for a GPU to see whether it
        must.
        """
        self.grad_scale = (norm / largest).clamp_min(1).float()  # torch's protocol for scaled gradients (GradScaler)
        try:
            self.step()
        finally:
            del self.grad_scale

    def _init_group(self, group: Any, params: Any, grads: Any, *states: Any) -> Any:
        result = super()._init_group(group, params, grads, *states)  # fills the lists
        for i, parameter in enumerate(params):
            order = sorted(range(parameter.ndim), key=parameter.stride, reverse=True)
            params[i] = parameter.detach().permute(order)
            if not params[i].is_contiguous():
                raise ValueError(f"a parameter must be dense in memory, got strides {parameter.stride()}")
            grads[i] = grads[i].detach().permute(order).contiguous()  # a copy only where its layout is another
            for name, moments in zip(MOMENTS, states):
                if not moments[i].permute(order).is_contiguous():  # a state from elsewhere
                    moments[i] = self.state[parameter][name] = torch.empty_like(parameter).copy_(moments[i])
                moments[i] = moments[i].permute(order)
        return result
