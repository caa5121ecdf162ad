"""Compiles the kernels while the package is built, where there is a C++ compiler."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

_ATTENTION = "src/regard/attention/backends/cpu_kernels"
_DECODER = "src/regard/generation/native"  # includes headers of the former


class KernelsHook(BuildHookInterface):
    """Adds the libraries to a wheel, or lays them beside the sources of an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Compile; without a compiler the package works, only slower."""
        attention, decoder = Path(self.root, _ATTENTION), Path(self.root, _DECODER)
        compile_kernels = _load(attention / "compiling.py").compile_kernels
        for folder, headers, left_out, name, slow in (
            (attention, None, ("avx512_vnni",), "attention's", "attention is half as fast"),
            (decoder, attention, (), "the decoder's", "decoding is slower"),
        ):
            problem = compile_kernels(folder, folder, headers, left_out)
            has_kernels = any(folder.glob("_*.so"))
            if problem is not None:
                cost = "others take their place" if has_kernels else slow
                self.app.display_warning(
                    f"regard: {name} kernels could not be compiled ({problem}): {cost}."
                )
            if has_kernels:
                build_data["artifacts"].append(f"{folder.relative_to(self.root)}/_*.so")
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{next(platform_tags())}"


def _load(path: Path) -> ModuleType:
    """Import a file by its path: the package itself cannot be imported yet."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
