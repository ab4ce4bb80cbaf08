"""One optimiser over one model: what turns losses into steps."""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from upaya.errors import UserError


class Engine:
    """AdamW with gradient clipping, in one process."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        learning_rate: float,
        max_grad_norm: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        self.model = model
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.optimiser = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=betas, weight_decay=weight_decay)

    def backward(self, loss: Tensor) -> None:
        """Add a (micro-)batch's gradient."""
        loss.backward()

    def step(self, scale: float = 1.0) -> float:
        """One optimiser step on the gradients added since the last, at `scale` times the learning rate.

        Returns the gradient's norm before clipping.

        Raises:
            UserError: the gradient is not finite; the step is not taken.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        if not torch.isfinite(norm):
            raise UserError(f"the gradient's norm is {norm.item()}")
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * scale
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return float(norm)

    def tensors(self) -> dict[str, Tensor]:
        """Weights and optimiser state by name: what a checkpoint holds."""
        found = {f"model.{name}": parameter.detach() for name, parameter in self.model.named_parameters()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                found[f"optimiser.{key}.{name}"] = value
        return found

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take a checkpoint's weights and optimiser state."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
            state = {
                key: tensors[f"optimiser.{key}.{name}"].clone().to("cpu" if key == "step" else parameter.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
                if f"optimiser.{key}.{name}" in tensors
            }
            if state:
                self.optimiser.state[parameter] = state
