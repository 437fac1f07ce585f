"""A kernel that imports what a chapter needs while the command that runs it still prepares."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_nb.commands import following

# Each kernel would warn that it talks plain TCP, and some that they were stopped.
QUIET = ["--log-level=CRITICAL"]
# Without names of their own in the chapter's namespace.
_FOLLOW = "exec({code!r}, {{}})"
_IMPORTS = "[__import__(f'vae_nb.{name}') for name in ('explorer', 'report')] and None"
_SETTINGS = "__import__('os').environ.update({environment!r})"
_THREADS = "__import__('torch').set_num_threads({threads})"


class Kernel:
    """A started kernel; see :func:`started`."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._before = dict(os.environ)
        self._clients: list[Any] = []

    def handed_over(self) -> Any:
        """Its manager, for nbclient, once the kernel has the environment that we have now.

        Raises :class:`RuntimeError` if it does not answer.
        """
        code = _SETTINGS.format(environment=_changes(self._before, os.environ))
        if threads := os.environ.get("OMP_NUM_THREADS"):  # read before torch was imported
            code += f"\n{_THREADS.format(threads=int(threads))}"
        client = self._manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            reply: Any = client.execute(
                code, silent=True, store_history=False, reply=True, timeout=60
            )
        finally:
            client.stop_channels()
        if reply["content"]["status"] != "ok":
            raise RuntimeError(f"the kernel cannot be set up: {reply['content'].get('evalue')}")
        self._manager.client_class = "jupyter_client.asynchronous.AsyncKernelClient"
        self._manager.client = self._client
        return self._manager

    def _client(self, **options: Any) -> Any:
        """A client, remembered: nbclient leaves it open, as the manager is not its own."""
        client = type(self._manager).client(self._manager, **options)
        self._clients.append(client)
        return client

    def close(self) -> None:
        """End it, and every connection to it."""
        for client in self._clients:
            client.stop_channels()
        self._manager.shutdown_kernel(now=True)


def _changes(before: Any, now: Any) -> dict[str, str]:
    return {name: value for name, value in now.items() if before.get(name) != value}


@contextlib.contextmanager
def started(source: Path) -> Iterator[Kernel]:
    """The kernel of a chapter, started here and ended in the end.

    It reads the environment of now; what changes until :meth:`Kernel.handed_over`, it gets then.
    """
    from jupyter_client import KernelManager

    metadata = json.loads(source.read_text(encoding="utf-8")).get("metadata", {})
    name = metadata.get("kernelspec", {}).get("name", "python3")
    manager = KernelManager(kernel_name=name)
    lines = [_FOLLOW.format(code=following()), _IMPORTS]
    arguments = [f"--InteractiveShellApp.exec_lines={line}" for line in lines]
    manager.start_kernel(extra_arguments=QUIET + arguments, cwd=str(source.parent))
    kernel = Kernel(manager)
    try:
        yield kernel
    except BaseException:
        # Else asyncio would tell of a kernel that died while nbclient waited for it.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    finally:
        kernel.close()
