"""Choice of a device by name."""

import torch

from sparse_ae.config.errors import ConfigError


def usable_device(name: str) -> torch.device:
    """Return the device ``name`` of this machine; ``auto`` is its accelerator, or the CPU.

    Raises ``ConfigError`` for a name that torch does not know or cannot use.

    >>> usable_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises any of them
        reason = f"not usable here ({str(error).splitlines()[0]})"
        usable = torch.accelerator.current_accelerator(check_available=True)
        raise ConfigError(
            "device", name, reason, f"auto, cpu, {usable} or {usable}:0" if usable else "auto or cpu"
        ) from error
    return device
