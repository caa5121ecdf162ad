"""The start of the processes of a run under torchrun, and their end.

They meet through torchrun's store, connect by PyTorch's process groups (gloo on CPUs, and nccl for
what is on GPUs), and watch each other. Source of the variables: PyTorch, torchrun (Elastic Launch).
"""

from __future__ import annotations

import fcntl
import re
import signal
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from os import environ

import msgspec
import torch
import torch.distributed as dist
from torch.distributed import (
    PrefixStore,  # pyright: ignore[reportPrivateImportUsage] - documented, not exported
    TCPStore,  # pyright: ignore[reportPrivateImportUsage]
)

from regard.errors import ResourceError
from regard.training.device import why_unusable
from regard.training.distribution import World
from regard.training.heartbeat import Failure, Process, Watch, end_process, write_message
from regard.training.signals import ignore_signals
from regard.training.torchrun_environment import TorchrunEnvironment
from regard.training.training_config import TrainingConfig

_START = timedelta(minutes=5)  # until all processes have started: PyTorch may be on a slow disk
_NOTED_SECONDS = 20.0  # of waiting for the others
_EXCHANGE = timedelta(minutes=30)  # of an operation: rank 0 may build a vocabulary meanwhile
_STORE = timedelta(seconds=10)
_LEAVING_SECONDS = 60
_ANSWER_SECONDS = 0.05
_ADDRESS_REQUEST = 0x8915  # SIOCGIFADDR of netdevice(7)


class Launch:
    """The processes of a run, from the time that they are connected to their end.

    Attributes:
        world: Their ranks, and what they exchange.
        num_restarts: How often torchrun has started them again, the most of any machine.
        advice: What follows when a process is lost; empty where torchrun does not start them again.
    """

    def __init__(
        self, world: World, watch: Watch, num_restarts: int, environment: TorchrunEnvironment
    ) -> None:
        self.world, self.num_restarts = replace(world, watch=watch), num_restarts
        self._watch = watch
        restarts = "torchrun starts the processes again, from the last checkpoint."
        self.advice = restarts if environment.restarts_left else ""
        self._runs_store = environment.runs_store

    def finish(self) -> None:
        """Leave a run that has ended well for this process, once it has for all.

        Else a signal that came to one of them would end it alone.
        """
        ignore_signals()
        self.world.barrier()
        self._watch.close()
        if self._runs_store:
            with suppress(RuntimeError):
                self._watch.wait_for_others(_LEAVING_SECONDS)
        dist.destroy_process_group()

    def fail(self, failure: Failure) -> Failure:
        """End the run on all ranks; return the failure with which it ends."""
        ignore_signals()
        return self._watch.leave(failure)

    def fail_lost(self) -> Failure:
        """End the run on all ranks after the connection to another process was lost."""
        ignore_signals()
        return self._watch.leave_lost()


def connect(environment: TorchrunEnvironment) -> Launch:
    """Connect this process with the others of its run, and start to watch them.

    Args:
        environment: Rank and address.

    Returns:
        The connected processes, watched by their heartbeats.

    Raises:
        ResourceError: The others cannot be reached, or one of them has ended.
    """
    gpu = choose_gpu(environment.local_rank)
    _choose_interface(environment)
    with _default_interrupt(), _noting_the_wait(environment):
        try:
            name = _meet(environment)
        except RuntimeError as error:
            if "EADDRINUSE" in str(error):
                raise ResourceError(
                    f"port {environment.port} is in use on {socket.gethostname()}, where the "
                    "processes are to meet.  Set MASTER_PORT to another one, on all of them."
                ) from error
            raise ResourceError(
                f"rank {environment.rank} (host {socket.gethostname()}): cannot reach the other "
                f"processes by {environment.meeting_point} ({_reason(error)}).  Does "
                "torchrun run on every machine, and can that address be reached from each?"
            ) from error
        try:
            return _begin_watch(environment, name, gpu)
        except RuntimeError as error:
            raise ResourceError(
                f"rank {environment.rank} (host {socket.gethostname()}): the connection to another "
                f"process has ended at the start ({_reason(error)})."
            ) from error


def _reason(error: RuntimeError) -> str:
    """Return the first sentence of an error of PyTorch, without the place in its source.

    >>> _reason(RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer. Check"))
    'Connection closed by peer'
    """
    return re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". ")[0]


def _meet(environment: TorchrunEnvironment) -> str:
    """Wait until all processes have started, and connect them; return a name of this start."""
    store = _open_store(environment, _START, runs_it=environment.runs_store)
    name = _agree_on_name(environment, store)
    store.set(f"{name}/here/{environment.rank}", "")
    store.wait([f"{name}/here/{rank}" for rank in range(environment.size)], _START)
    dist.init_process_group(
        "gloo",
        store=PrefixStore(name, store),
        rank=environment.rank,
        world_size=environment.size,
        timeout=_EXCHANGE,
    )
    return name


def _begin_watch(environment: TorchrunEnvironment, name: str, gpu: str | None) -> Launch:
    """Let the connected processes know and watch each other."""
    world = World(rank=environment.rank, size=environment.size, control=dist.group.WORLD)
    own = (msgspec.to_builtins(Process.present()), environment.num_restarts, gpu)
    gathered = world.gather(own)
    processes = [msgspec.convert(process, Process) for process, _, _ in gathered]
    hosts = tuple(process.host for process in processes)
    gradients = None
    machines = [f"{process.host} {process.machine}" for process in processes]
    if have_own_gpus(machines, [gpu for _, _, gpu in gathered]):
        gradients = dist.new_group(backend="nccl", timeout=_EXCHANGE)
    world = replace(world, gradients=gradients, hosts=hosts)
    watched = _open_store(environment, _STORE)  # a store serves one thread at a time
    watch = Watch(
        PrefixStore(name, watched),
        environment.rank,
        processes,
        seconds=TrainingConfig().heartbeat_seconds,
        end=end_process,
        say=write_message,
        runs_store=environment.runs_store,
    )
    watch.beat()
    world.barrier()  # from here on all have a heartbeat
    watch.start()
    most_restarts = max(num_restarts for _, num_restarts, _ in gathered)
    return Launch(world, watch, most_restarts, environment)


def choose_gpu(local_rank: int) -> str | None:
    """Let this process take its GPU, one after another by its rank on the machine.

    Returns:
        Where it is on its machine; None where the process sees none that it can use. A part of a
        GPU (MIG) is where the whole one is.
    """
    count = torch.cuda.device_count()
    if not count:
        return None
    index = local_rank % count  # a process of Slurm may see its own GPU alone
    try:
        if why_unusable(index) is not None:
            return None
    except torch.OutOfMemoryError:  # a run on CPUs needs none; another one says so
        return None
    torch.cuda.set_device(index)
    chip = torch.cuda.get_device_properties(index)
    return f"{chip.pci_domain_id}:{chip.pci_bus_id}:{chip.pci_device_id}"


def have_own_gpus(machines: Sequence[str], gpus: Sequence[str | None]) -> bool:
    """Return whether each process has a GPU, and none that of another: nccl takes no others.

    Args:
        machines: What identifies the machine of each process, also among machines of one name.
        gpus: From `choose_gpu`.

    >>> have_own_gpus(["a", "a", "b"], ["0:1:0", "0:2:0", "0:1:0"])
    True
    >>> have_own_gpus(["a", "a"], ["0:1:0", "0:1:0"])
    False
    """
    return None not in gpus and len(set(zip(machines, gpus, strict=True))) == len(gpus)


def _open_store(
    environment: TorchrunEnvironment, timeout: timedelta, *, runs_it: bool = False
) -> TCPStore:
    """Connect to the store of the run, and be its server where torchrun is not."""
    return TCPStore(
        environment.address,
        environment.port,
        environment.size,
        is_master=runs_it,
        timeout=timeout,
        wait_for_workers=False,
    )


def _agree_on_name(environment: TorchrunEnvironment, store: TCPStore) -> str:
    """Return a name of this start of the processes, the same on every rank.

    The server may have keys of an earlier start, whose processes torchrun has ended. So each
    process asks for the name under a number of its own, and rank 0 answers: no process reads what
    was meant for an earlier one.
    """
    if environment.rank:
        number = store.add("regard/questions", 1)
        name = store.get(f"regard/answer/{number}").decode()
        store.add(f"{name}/joined", 1)
        return name
    name = f"regard/{uuid.uuid4().hex}"
    arguments = (_open_store(environment, _START), name, environment.size - 1)
    threading.Thread(target=_answer, args=arguments, daemon=True).start()
    return name


def _answer(store: TCPStore, name: str, num_others: int) -> None:
    """Answer all who ask for the name, until the other processes have joined under it."""
    with suppress(RuntimeError):
        while store.add(f"{name}/joined", 0) < num_others:
            while store.add("regard/answers", 0) < store.add("regard/questions", 0):
                number = store.add("regard/answers", 1)
                store.set(f"regard/answer/{number}", name)
            time.sleep(_ANSWER_SECONDS)


def _choose_interface(environment: TorchrunEnvironment) -> None:
    """Have gloo use the network interface that leads to the first machine.

    By itself it takes the address of this machine's name, which is often that of the machine for
    itself (127.0.0.1), where no other machine can reach it. What the user has set stays.
    """
    if "GLOO_SOCKET_IFNAME" in environ:
        return
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((environment.address, environment.port))  # nothing is sent
        address = probe.getsockname()[0]
        if address.startswith("127.") and environment.local_size < environment.size:
            return
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            with suppress(OSError):
                answer = fcntl.ioctl(probe.fileno(), _ADDRESS_REQUEST, request)
                if socket.inet_ntoa(answer[20:24]) == address:
                    environ["GLOO_SOCKET_IFNAME"] = name
                    return


@contextmanager
def _noting_the_wait(environment: TorchrunEnvironment) -> Iterator[None]:
    """Say on each machine that other processes are waited for, if that takes long."""
    text = f"note: rank {environment.rank} waits at {environment.meeting_point} for the other"
    text = f"{text} processes (WORLD_SIZE={environment.size})."
    if not environment.is_of_torchrun:
        text += "  For a run on this process alone, unset RANK and WORLD_SIZE."
    timer = threading.Timer(_NOTED_SECONDS, lambda: write_message(text))
    timer.daemon = True
    if environment.local_rank == 0:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _default_interrupt() -> Iterator[None]:
    """Let Ctrl-C end this process at once, in operations that let no handler of Python run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
