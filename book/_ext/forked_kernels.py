"""Kernels forked from one process that has imported what pages import: seconds less for each page.

A page's first cell takes longer than most pages need for all the others: it imports torch, and
what measures and draws. Here one process imports all of it, and forks a kernel for each page. A
kernel of another Python starts as always, as do all where the system is not Linux.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

LAUNCHER = ["-m", "ipykernel_launcher"]
# It ends, and all kernels with it, when the pipe by which it is asked is closed: when we end.
_SERVER = """
import contextlib, gc, importlib, json, os, signal, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
del sys.path[0]  # the folder that it was started in
for name in ["ipykernel.kernelapp", *sys.argv[1:]]:
    with contextlib.suppress(Exception):  # the page that imports it says what is wrong
        importlib.import_module(name)
if "vae_nb.data" in sys.modules:
    images = sys.modules["vae_nb.data"].load()  # kernels find it held
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    arguments, folder, environment = json.loads(line)
    if child := os.fork():
        print(child, file=answers, flush=True)
        continue
    answers.close()
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "torch" in sys.modules and (threads := environment.get("OMP_NUM_THREADS")):
        sys.modules["torch"].set_num_threads(int(threads))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # else all kernels had the same noise
    sys.argv[1:] = [*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"]
    from ipykernel.kernelapp import launch_new_instance
    launch_new_instance()
    break
"""


class Forks:
    """The process that imports, and forks."""

    def __init__(self, modules: list[str]) -> None:
        self._one_at_a_time = threading.Lock()
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # what has threads cannot be forked
            start_new_session=True,  # an interrupt is for the build, which then ends this
        )

    def fork(self, arguments: list[str], folder: str, environment: dict[str, str]) -> Forked:
        """A kernel with these arguments. Raises :class:`OSError` if the process has ended."""
        assert self._server.stdin and self._server.stdout
        with self._one_at_a_time:
            self._server.stdin.write(json.dumps([arguments, folder, environment]) + "\n")
            self._server.stdin.flush()
            answer = self._server.stdout.readline()
        if not answer:
            raise OSError("the process that forks kernels has ended")
        return Forked(int(answer))

    def close(self) -> None:
        """End it."""
        self._server.kill()
        self._server.communicate()


class Forked:
    """A process that is no child of ours, as far as a provisioner needs a ``Popen`` of it."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid, self._descriptor = pid, os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)

    def poll(self) -> int | None:
        """0 if it has ended: nobody knows how."""
        return 0 if select.select([self._descriptor], [], [], 0)[0] else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        select.select([self._descriptor], [], [], timeout)
        return 0

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Provisioner(LocalProvisioner):
    """Starts a kernel by a fork."""

    forks: Forks

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Fork it if it is of this Python; else start it."""
        if cmd[:3] != [sys.executable, *LAUNCHER]:
            return await super().launch_kernel(cmd, **kwargs)
        given = cmd[3:], str(kwargs.get("cwd") or os.getcwd()), dict(kwargs["env"])
        try:
            process = await asyncio.to_thread(self.forks.fork, *given)
        except OSError:  # the process that forks has ended: pages do not need it
            return await super().launch_kernel(cmd, **kwargs)
        self.process, self.pid, self.pgid = process, process.pid, process.pid
        return self.connection_info


@contextlib.contextmanager
def managers(modules: list[str]) -> Iterator[type[AsyncKernelManager]]:
    """The class of managers whose kernels have ``modules`` imported, while this is entered.

    Without modules there is nothing to gain, and kernels start as always.
    """
    if not modules or not hasattr(os, "pidfd_open"):
        yield AsyncKernelManager
        return
    server = Forks(modules)

    class Manager(AsyncKernelManager):
        async def _async_pre_start_kernel(self, **options: Any) -> Any:
            self.kernel_id = self.kernel_id or str(uuid.uuid4())
            names = {"kernel_id": self.kernel_id, "kernel_spec": self.kernel_spec}
            self.provisioner = Provisioner(**names, parent=self)
            self.provisioner.forks = server  # type: ignore[attr-defined]
            return await super()._async_pre_start_kernel(**options)

    try:
        yield Manager
    finally:
        server.close()
