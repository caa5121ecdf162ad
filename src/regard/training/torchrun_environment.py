"""The environment variables by which torchrun describes a run to its processes.

torchrun gives each process its rank, their number, and the address where they meet. A Kubernetes
PyTorchJob gives the same variables to its pods. This module loads no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from regard.errors import ConfigError

_REQUIRED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class TorchrunEnvironment(NamedTuple):
    """The rank of a process, and where it meets the others.

    Args:
        rank: Its index among all processes, from 0.
        size: Number of all processes.
        local_rank: Its index among those of its machine, from 0.
        local_size: Number of processes of its machine.
        address: Name or address of the machine where they meet.
        port: Its port.
        runs_store: Whether this process runs the server there, and torchrun does not.
        num_restarts: How often torchrun of this machine has started them again.
        restarts_left: How often it may still do so.
        error_file: Where torchrun looks for the error of this process; empty if nowhere.
        is_of_torchrun: Whether torchrun has started it; else the variables may be left over.
    """

    rank: int
    size: int
    local_rank: int = 0
    local_size: int = 1
    address: str = "localhost"
    port: int = 29500
    runs_store: bool = False
    num_restarts: int = 0
    restarts_left: int = 0
    error_file: str = ""
    is_of_torchrun: bool = False

    @property
    def meeting_point(self) -> str:
        """Address and port where the processes meet."""
        return f"{self.address}:{self.port}"

    @classmethod
    def from_environment(
        cls, variables: Mapping[str, str] | None = None
    ) -> TorchrunEnvironment | None:
        """Return what the environment states; None for a process without others.

        Args:
            variables: The environment; None takes that of this process.

        Raises:
            ConfigError: A variable is not a number, or the rank is not below the number of
                processes.
        """
        variables = os.environ if variables is None else variables
        if not all(variables.get(name) for name in _REQUIRED):
            return None

        def number(name: str, default: int | None = None) -> int:
            text = variables.get(name) or str(default)
            if not text.isdecimal():
                raise ConfigError(
                    f"{name}={text}: a whole number was expected in the environment, as torchrun "
                    "sets it."
                )
            return int(text)

        rank, size = number("RANK"), number("WORLD_SIZE")
        if rank >= size:
            raise ConfigError(f"RANK={rank}: below WORLD_SIZE={size} was expected.")
        num_restarts = number("TORCHELASTIC_RESTART_COUNT", 0)
        return cls(
            rank=rank,
            size=size,
            local_rank=number("LOCAL_RANK", 0),
            local_size=number("LOCAL_WORLD_SIZE", 1),
            address=variables["MASTER_ADDR"],
            port=number("MASTER_PORT"),
            runs_store=rank == 0 and variables.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            num_restarts=num_restarts,
            restarts_left=max(0, number("TORCHELASTIC_MAX_RESTARTS", 0) - num_restarts),
            error_file=variables.get("TORCHELASTIC_ERROR_FILE", ""),
            is_of_torchrun=bool(variables.get("TORCHELASTIC_RUN_ID")),
        )
