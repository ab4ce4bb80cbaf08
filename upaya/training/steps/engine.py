"""One optimiser over one policy, in one process or in several: what turns losses into steps.

Each process brings the loss of its own part of a batch; a step is made from the sum of all their gradients.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from upaya.errors import UserError
from upaya.policy.model import Policy
from upaya.training.steps import processes
from upaya.training.steps.tensors import Whole

MOMENTS = ("exp_avg", "exp_avg_sq")
OPTIMISER = "optimiser."  # what the names of its state begin with


class Engine:
    """AdamW with gradient clipping; every process holds everything (ZeRO stage 0).

    Parameters that are not in float32 are trained as float32 copies, from which they are rounded after each step.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        learning_rate: float,
        max_grad_norm: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        self.policy = policy
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self.masters = {
            name: p if p.dtype == torch.float32 else Parameter(p.detach().float()) for name, p in self.trained.items()
        }
        self.optimiser = torch.optim.AdamW(
            list(self.masters.values()),
            lr=learning_rate,
            betas=betas,
            weight_decay=weight_decay,
            fused=True,  # on a CPU without MKL's square root, which differs from processor to processor
        )
        for name, master in self.masters.items():
            if master is not self.trained[name]:
                self.trained[name].register_post_accumulate_grad_hook(partial(_move_gradient, master))

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of a (micro-)batch, or of this process's part of it. All processes call it equally often."""
        loss.backward()

    def step(self, scale: float = 1.0) -> float:
        """One optimiser step on the gradients added since the last, at `scale` times the learning rate.

        Returns the gradient's norm before clipping.

        Raises:
            UserError: the gradient is not finite; the step is not to be used.
        """
        masters = list(self.masters.values())
        if processes.world() > 1:
            processes.added([_gradient(master) for master in masters])
        norm = torch.nn.utils.clip_grad_norm_(masters, self.max_grad_norm)
        _need_finite(norm.item())
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * scale
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self._round()
        return norm.item()

    @torch.no_grad()
    def _round(self) -> None:
        for name, master in self.masters.items():
            if master is not self.trained[name]:
                self.trained[name].copy_(master)

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        """The policy with all its weights at hand, to sample from."""
        yield self.policy

    def finish(self) -> None:
        """Leave the policy as a plain one, whole in every process. The engine is of no use afterwards."""

    def tensors(self) -> dict[str, Whole]:
        """Trained weights and optimiser state by name, whole: what a checkpoint holds, however many processes there are
        and whatever they share out."""
        tensors = {f"model.{name}": _at_hand(master.detach()) for name, master in self.masters.items()}
        for name, master in self.masters.items():
            for key, value in self.optimiser.state.get(master, {}).items():
                tensors[f"{OPTIMISER}{key}.{name}"] = _at_hand(value)
        return tensors

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take a checkpoint's weights and optimiser state, or what there is of them."""
        for name, master in self.masters.items():
            if f"model.{name}" in tensors:
                master.copy_(tensors[f"model.{name}"])
            state = {
                key: tensors[f"{OPTIMISER}{key}.{name}"].clone().to(master.device)
                for key in ("step", *MOMENTS)
                if f"{OPTIMISER}{key}.{name}" in tensors
            }
            if state:
                self.optimiser.state[master] = state
        self._round()


class ZeroEngine(Engine):
    """The same under DeepSpeed: the optimiser's state (stage 1), the gradients too (2), the weights too (3) are shared
    out among the processes (Rajbhandari et al. 2020, "ZeRO")."""

    def __init__(
        self,
        policy: Policy,
        stage: int,
        *,
        learning_rate: float,
        max_grad_norm: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        import deepspeed

        self.policy, self.stage = policy, stage
        self.learning_rate = learning_rate
        self.trained = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
        self.twin = _twin(policy) if stage == 3 else policy
        optimiser = torch.optim.AdamW(
            list(self.trained.values()), lr=learning_rate, betas=betas, weight_decay=weight_decay
        )
        low = next(iter(self.trained.values())).dtype == torch.bfloat16
        self.deepspeed, *_ = deepspeed.initialize(
            model=policy.model,
            optimizer=optimiser,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,  # not looked at: how large a micro-batch is, is said in tokens
                "managed_gradient_accumulation": False,  # a step comes when step() is called
                "gradient_clipping": max_grad_norm,
                "zero_optimization": {"stage": stage, "overlap_comm": False},
                "zero_allow_untested_optimizer": True,
                "bf16": {"enabled": low},
                "steps_per_print": 2**31,
            },
        )
        policy.passes = self.deepspeed

    def backward(self, loss: Tensor) -> None:
        self.deepspeed.backward(
            loss * processes.world(), scale_wrt_gas=False
        )  # DeepSpeed takes the mean over processes

    def step(self, scale: float = 1.0) -> float:
        for group in self.deepspeed.optimizer.param_groups:
            group["lr"] = self.learning_rate * scale
        self.deepspeed.step()
        norm = float(self.deepspeed.get_global_grad_norm())
        _need_finite(norm)
        return norm

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        """In stage 3 the weights are gathered for as long as this lasts, and read by a twin of the model that knows
        nothing of DeepSpeed: its hooks would share them out again after each layer."""
        if self.stage < 3:
            yield self.policy
            return
        import deepspeed

        own = dict(self.policy.model.named_parameters())
        with deepspeed.zero.GatheredParameters(list(own.values())):
            for name, parameter in self.twin.model.named_parameters():
                parameter.data = own[name].data
            yield self.twin
            for parameter in self.twin.model.parameters():
                parameter.data = parameter.data.new_empty(0)

    @torch.no_grad()
    def finish(self) -> None:
        self.policy.passes = None
        if self.stage == 3:
            with self.whole() as whole:
                kept = {name: parameter.data.clone() for name, parameter in whole.model.named_parameters()}
            for name, parameter in self.twin.model.named_parameters():
                parameter.data = kept[name]
            self.policy.model = self.twin.model
        self.deepspeed.destroy()

    def tensors(self) -> dict[str, Whole]:
        from deepspeed import utils

        states = self.deepspeed.optimizer.optimizer.state
        tensors = {}
        for name, parameter in self.trained.items():
            shape = getattr(parameter, "ds_shape", parameter.shape)  # stage 3 leaves a parameter empty
            tensors[f"model.{name}"] = Whole(shape, partial(utils.safe_get_full_fp32_param, parameter))
            if states:
                tensors[f"{OPTIMISER}step.{name}"] = _at_hand(states[self._flat()[0]]["step"])
                for key in MOMENTS:
                    gather = partial(utils.safe_get_full_optimizer_state, parameter, key)
                    tensors[f"{OPTIMISER}{key}.{name}"] = Whole(shape, gather)
        return tensors

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        step = next((tensors[key] for key in tensors if key.startswith(f"{OPTIMISER}step.")), None)
        if step is not None:
            for flat in self._flat():
                moments = {key: torch.zeros_like(flat) for key in MOMENTS}
                self.deepspeed.optimizer.optimizer.state[flat] = {"step": step.clone(), **moments}
            if self.stage < 3:
                self.deepspeed.optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self.trained.items():
            for key in (None, *MOMENTS):
                saved = f"{OPTIMISER}{key}.{name}" if key else f"model.{name}"
                if saved in tensors:
                    self._set(parameter, tensors[saved].to(parameter.device), key)

    def _set(self, parameter: Any, value: Tensor, moment: str | None) -> None:
        """Give this process's part of a parameter, or of one of its moments, its part of a whole value."""
        from deepspeed import utils

        if self.stage < 3:
            if moment:
                utils.safe_set_full_optimizer_state(parameter, value, moment)
            else:
                utils.safe_set_full_fp32_param(parameter, value)
                parameter.copy_(value)
            return
        size = parameter.ds_tensor.numel()  # the parts are equal: the last is padded
        padded = torch.nn.functional.pad(value.flatten(), (0, size * processes.world() - value.numel()))
        own = padded[processes.rank() * size :][:size]
        if moment:
            utils.safe_set_local_optimizer_state(parameter, own, moment)
        else:
            utils.safe_set_local_fp32_param(parameter, own)
            parameter.ds_tensor.copy_(own)
            if parameter.numel() == value.numel():  # a small one, of which each process keeps a whole copy too
                parameter.copy_(value)

    def _flat(self) -> Sequence[Tensor]:
        """This process's part of the float32 weights, as DeepSpeed hands them to AdamW."""
        zero = self.deepspeed.optimizer
        flat: Sequence[Tensor] = (
            zero.single_partition_of_fp32_groups if self.stage < 3 else zero.fp32_partitioned_groups_flat
        )
        return flat


def engine_for(policy: Policy, zero: int, **settings: Any) -> Engine:
    """The engine for a ZeRO stage; 0 is plain data parallelism."""
    return ZeroEngine(policy, zero, **settings) if zero else Engine(policy, **settings)


def _at_hand(tensor: Tensor) -> Whole:
    return Whole(tensor.shape, lambda: tensor)


def _gradient(parameter: Tensor) -> Tensor:
    """A process whose part of the batch did not reach a parameter adds nothing to it."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _move_gradient(master: Parameter, parameter: Tensor) -> None:
    """Add a parameter's gradient to its float32 copy's as soon as it is there: the backward pass holds none twice but
    one."""
    assert parameter.grad is not None
    if master.grad is None:
        master.grad = parameter.grad.float()
    else:
        master.grad += parameter.grad
    parameter.grad = None


def _need_finite(norm: float) -> None:
    if not math.isfinite(norm):
        raise UserError(f"the gradient's norm is {norm}")


def _twin(policy: Policy) -> Policy:
    """The same model with empty weights, tied as they are tied there."""
    empty = {
        id(p): Parameter(p.detach().new_empty(0), requires_grad=p.requires_grad) for p in policy.model.parameters()
    }
    return replace(policy, model=copy.deepcopy(policy.model, empty))
