"""The private parts of PyTorch that hannet relies on, each with the public behaviour it stands for.

Everything else uses public names only. tests/ops/test_torch_internals.py fails where a new version of PyTorch changes one of these.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._C import DispatchKey, _dispatch_keys, _functorch, _is_tracing, _len_torch_dispatch_stack
from torch.autograd import forward_ad
from torch.utils import _python_dispatch

F = TypeVar("F", bound=Callable[..., Any])
GRAD, JVP = _functorch.TransformType.Grad, _functorch.TransformType.Jvp

TorchDispatchMode = _python_dispatch.TorchDispatchMode  # sees every operator of this thread, such as those that draw
is_tracing = _is_tracing  # torch.jit.is_tracing(): within torch.jit.trace
leaky_relu = torch._C._nn.leaky_relu  # F.leaky_relu, with `out`
is_zero_tensor = Tensor._is_zerotensor  # a gradient that is 0 everywhere and has no memory, as that of torch.sgn

# the steps inside torch.optim.Adam and AdamW with fused=True, and SGD with foreach=True; train/optimizers.py says why without those
fused_adam_, fused_adamw_ = torch._fused_adam_, torch._fused_adamw_
foreach_add_, foreach_mul_, foreach_addcmul_ = torch._foreach_add_, torch._foreach_mul_, torch._foreach_addcmul_
foreach_addcmul = torch._foreach_addcmul


def nothing_watches() -> bool:
    """True outside torch.jit.trace, forward-mode differentiation, torch.func and every TorchDispatchMode."""
    return (
        forward_ad._current_level < 0
        and _functorch.peek_interpreter_stack() is None
        and _len_torch_dispatch_stack() == 0
        and not _is_tracing()
    )


def in_forward_mode() -> bool:
    """True within forward_ad.dual_level() and torch.func.jvp."""
    return forward_ad._current_level >= 0 or in_transform(JVP)


def in_transform(kind: Any = None) -> bool:
    """True within a transform of torch.func: of a kind (GRAD, JVP), or of any, vmap included."""
    levels = _functorch.get_interpreter_stack() or ()
    return any(kind is None or level.key() == kind for level in levels)


def in_dispatch_mode() -> bool:
    """True within a torch.utils._python_dispatch.TorchDispatchMode, such as that of fake tensors."""
    return _len_torch_dispatch_stack() > 0


def is_batched(tensor: Tensor) -> bool:
    """True for the gradients of torch.autograd.grad(..., is_grads_batched=True): neither of a CPU nor of a GPU."""
    keys = _dispatch_keys(tensor)
    return not (keys.has(DispatchKey.CPU) or keys.has(DispatchKey.CUDA))


def changed_in_place(error: RuntimeError) -> bool:
    """True for what autograd says of a saved tensor that was changed in place since; it has no exception of its own for that."""
    return "modified by an inplace operation" in str(error)


def constant_when_compiled(function: F) -> F:
    """torch.compiler.assume_constant_result, which imports the whole compiler: torch.compile asks once, as it traces."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def has_hooks(module: nn.Module, backward: bool = True) -> bool:
    """True where calling the module does more than its class's `forward`: hooks, its own or global, or a replaced `forward`.

    backward: whether hooks on gradients count.
    """
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or (backward and (module._backward_hooks or module._backward_pre_hooks))
        or "forward" in vars(module)
        or nn.modules.module._has_any_global_hook()
    )


def torch_library() -> str:
    """The path of PyTorch's compiled library, which is linked to the OpenMP runtime that PyTorch computes with."""
    return torch._C.__file__
