"""Networks without memory for their weights: to count parameters, look up names and plan memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Weightless(TorchFunctionMode):
    """Within this, new weights have a shape but no memory.

    ``torch.device("meta")`` would take the constants too from which some encoders compute their shapes.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run `func`, on the device meta if it makes the tensor of a weight."""
        options = kwargs or {}
        if func is torch.empty:
            options = {**options, "device": options.get("device") or "meta"}
        return func(*args, **options)
