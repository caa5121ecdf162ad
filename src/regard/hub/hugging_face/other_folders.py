"""Folders and files that are not models: the error says what each is, and what to do.

Caches of the hub, adapters of peft, files of llama.cpp, weights for TensorFlow, JAX or ONNX alone,
pickles, and names of the hub, from which nothing is ever downloaded.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from regard.data.listing import list_first
from regard.hub.file_names import (
    CTRANSLATE2_MODEL,
    GRAPH_NAMES,
    HF_CONFIG,
    ONNX_SUFFIX,
    TORCH_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
)

ADAPTER = "adapter_config.json"
cut_list = partial(list_first, limit=10)
"""Returns at most ten names, and how many more there are."""
_CACHE = "models--"
_GGUF = ".gguf"
_WEIGHTS = (".safetensors", ".bin", ".onnx", ".pt", ".h5")
_NOT_WEIGHTS = {"optimizer", "rng_state", "scaler", "scheduler", "training_args"}
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
# Endings of the files of other libraries, in the order in which they are looked for.
_LIBRARIES = {
    "tf_model.h5": "TensorFlow",
    ".h5": "TensorFlow",
    ".ckpt.index": "TensorFlow",
    "saved_model.pb": "TensorFlow",
    "flax_model.msgpack": "JAX",
    ".msgpack": "JAX",
    ".onnx": "ONNX",
    "openvino_model.xml": "OpenVINO",
}
# Files of a model of another program, all of which it has.
_PROGRAMS = (
    ("fairseq", ("dict.*.txt", "*.pt")),
    ("OpenNMT", ("*_step_*.pt",)),
    ("Marian", ("*.npz",)),
    ("spaCy", ("config.cfg", "meta.json")),
    ("fastText", ("*.ftz",)),
)
_FASTTEXT = b"\xba\x16\x4f\x2f"  # how its .bin begin
# Endings of the names of scales, packed numbers and so on (GPTQ, AWQ, bitsandbytes, FP8).
_QUANTIZED = (
    *(".qweight", ".qzeros", ".g_idx", ".SCB", ".absmax", ".quant_map"),
    *(".weight_scale", ".weight_scale_inv", ".weight_packed", ".weight_shape"),
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_WELL_KNOWN = re.compile(
    r"(distil|sci)?(bert|gpt2|roberta)([._-].*)?"
    r"|(albert|bart|camembert|electra|gpt|llama|longformer|m2m100|mbart|modernbert|multilingual"
    r"|nllb|opus|paraphrase|t5|vit|xlm|all)[-_].*",
    re.IGNORECASE,
)


def describe_missing(path: Path) -> str:
    """Return what to do about a name that looks like one of the hub; empty for other names."""
    name = str(path)
    is_hub_name = _HUB_NAME.fullmatch(name) and not path.parent.exists()
    if not is_hub_name and not _WELL_KNOWN.fullmatch(name):
        return ""
    return (
        "  A name of the Hugging Face hub?  Nothing is downloaded here.  Get the folder, then name "
        f"it: hf download {name} --local-dir {path.name}"
    )


def describe_file(path: Path) -> str:
    """Return what a file is that was named in place of a folder; empty for other files."""
    if path.suffix == _GGUF:
        return f"{path}: weights of llama.cpp (GGUF).  {_ORIGINAL}"
    if path.suffix in _WEIGHTS:
        return f"{path}: a file of weights.  Name its folder, which has {HF_CONFIG} too."
    return ""


def describe_folder(path: Path) -> str:
    """Return what a folder without a model is, with what to do; empty where nothing is known.

    Args:
        path: A folder without ``config.toml`` and without a ``config.json`` of Hugging Face.
    """
    if text := _describe_cache(path) or describe_adapter(path):
        return text
    if files := _names(path, f"*{_GGUF}"):
        return f"{path}: weights of llama.cpp (GGUF), {cut_list(files)}.  {_ORIGINAL}"
    if text := _describe_distributed(path):
        return text
    if (path / CTRANSLATE2_MODEL).is_file() and _names(path, "*vocabulary.*"):
        return (
            f"{path}: a model for CTranslate2, which is not opened here; its README says how texts "
            "are written.  Name the folder that it was made from."
        )
    if (path / HF_CONFIG).is_file():
        return (
            f"{path}/{HF_CONFIG}: has no model_type, which says what the model is.  Write it "
            'there, such as "model_type": "bert".'
        )
    return _describe_program(path) or _describe_library(path, f"{path}: has a model")


def _describe_program(path: Path) -> str:
    """Return of which other program a folder without ``config.json`` has a model; else empty."""
    for program, patterns in _PROGRAMS:
        files = [_names(path, pattern)[:1] for pattern in patterns]
        if all(files):
            return _describe_other_model(path, program, [name for names in files for name in names])
    pickles = [name for name in _names(path, "*") if _is_pickle(name) and (path / name).is_file()]
    for name in pickles:
        with (path / name).open("rb") as stream:
            if stream.read(len(_FASTTEXT)) == _FASTTEXT:
                return _describe_other_model(path, "fastText", [name])
    if not pickles:
        return ""
    return (
        f"{path}: has {cut_list(pickles)}, a pickle, and no {HF_CONFIG}, which says what the model "
        f"is.  {_ORIGINAL}"
    )


def _describe_other_model(path: Path, program: str, files: list[str]) -> str:
    """Return that a folder has a model of another program, by some of its files."""
    return (
        f"{path}: a model of {program} ({cut_list(files)}), which is not read here.  Take a folder "
        f"of transformers, with {HF_CONFIG} and .safetensors, or train one of your own."
    )


_ORIGINAL = f"Take the original folder, with {HF_CONFIG} and .safetensors."


def describe_graphs(folder: Path) -> str:
    """Return what a folder of graphs is, which an export wrote; empty for other folders.

    Args:
        folder: Folder with a ``config.json``.
    """
    for suffix, library in ((ONNX_SUFFIX, "onnxruntime"), (TORCH_SUFFIX, "PyTorch")):
        files = [
            f"{name}{suffix}" for name in GRAPH_NAMES if (folder / f"{name}{suffix}").is_file()
        ]
        if files and not (folder / WEIGHTS).exists():
            return (
                f"{folder}: a model for {library} ({cut_list(files)}), which is not opened here; "
                "its README says how it is run.  Name the folder that it was made from."
            )
    return ""


def describe_adapter(path: Path) -> str:
    """Return what a folder with adapters of peft is, and how they are merged; else empty."""
    if not (path / ADAPTER).is_file():
        return ""
    try:
        fields = json.loads((path / ADAPTER).read_text(encoding="utf-8"))
        base = fields.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    merged = f"{path}-merged"
    return (
        f"{path}: adapters of peft{f' over {base}' if base else ''}, which are not applied here.  "
        "Merge them:\n"
        "    from peft import AutoPeftModel\n"
        f"    AutoPeftModel.from_pretrained({str(path)!r})"
        f".merge_and_unload().save_pretrained({merged!r})\n"
        "with AutoPeftModelForCausalLM or AutoPeftModelForSequenceClassification where it has such "
        f"a head.  Then copy the vocabulary, such as tokenizer.json, into {merged}: peft does not."
    )


def describe_quantization(fields: Mapping[str, Any]) -> str:
    """Return how the weights of a folder are quantized; empty where they are not.

    Args:
        fields: Fields of ``config.json``.
    """
    quantization = fields.get("quantization_config")
    if not quantization:
        return ""
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    return (
        f"quantization_config: weights quantized{f' by {method}' if method else ''}, which are not "
        f"computed here.  {_ORIGINAL}"
    )


def describe_quantized_tensors(names: Iterable[str]) -> str:
    """Return which tensors belong to quantized weights; empty where none does.

    Args:
        names: Names of tensors, of a folder whose ``config.json`` says nothing of it.
    """
    quantized = sorted(name for name in names if name.endswith(_QUANTIZED))
    if not quantized:
        return ""
    return (
        f"the tensors {cut_list(quantized)} are of quantized weights, which are not computed here."
        f"  {_ORIGINAL}"
    )


def describe_weights(folder: Path) -> str:
    """Return in which files a folder without safetensors has its weights, and what to do.

    Args:
        folder: Folder with a ``config.json`` of Hugging Face.
    """
    if pickles := [name for name in _names(folder, "*") if _is_pickle(name)]:
        return (
            f"{folder}/: has its weights in {cut_list(pickles)} only, a pickle.  Opening one can "
            "run any program, so only .safetensors is read.  Convert a folder that you trust, with "
            f"all its heads and biases:\n    python -c {_quote(conversion(folder, pickles))}"
        )
    if files := _names(folder, f"*{_GGUF}"):
        return (
            f"{folder}/: has its weights for llama.cpp (GGUF) only, {cut_list(files)}.  {_ORIGINAL}"
        )
    if files := _names(folder, "*.safetensors"):
        return (
            f"{folder}/: has its weights in {cut_list(files)}.  {WEIGHTS} was expected, or several "
            f"files that {WEIGHTS_INDEX} lists.  Rename a single file."
        )
    return _describe_distributed(folder) or _describe_library(folder, f"{folder}/: has its weights")


def _describe_distributed(folder: Path) -> str:
    """Return what a checkpoint of PyTorch's processes is; empty for other folders."""
    files = _names(folder, "*.distcp")
    if not files:
        return ""
    return (
        f"{folder}: a checkpoint of torch.distributed.checkpoint ({cut_list(files)}), whose index "
        ".metadata is a pickle.  Opening one can run any program, so only .safetensors is read.  "
        "Write it again with HuggingFaceStorageWriter and enable_consolidation=True."
    )


def conversion(folder: Path, pickles: list[str]) -> str:
    """Return a program that writes the tensors of pickles to safetensors, heads and biases too."""
    paths = [str(folder / name) for name in pickles]
    return (
        "import torch; from safetensors.torch import save_file; "
        f"t = [torch.load(f, map_location='cpu', weights_only=True) for f in {paths!r}]; "
        "save_file({n: x.clone().contiguous() for part in t for n, x in part.items()}, "
        f"{str(folder / 'model.safetensors')!r}, {{'format': 'pt'}})"
    )


def _quote(program: str) -> str:
    """Return a program as a word of a shell, in double quotes where they change nothing in it."""
    return shlex.quote(program) if re.search(r'["$`\\!]', program) else f'"{program}"'


def _names(folder: Path, pattern: str) -> list[str]:
    return sorted(entry.name for entry in folder.glob(pattern))


def _is_pickle(name: str) -> bool:
    return name.endswith(_PICKLES) and name.partition(".")[0] not in _NOT_WEIGHTS


def _describe_cache(path: Path) -> str:
    """Return which folder is meant of a cache of the hub, or of several; empty for others."""
    if path.name.startswith(_CACHE) or (path / "snapshots").is_dir():
        snapshot = _snapshot(path)
        advice = f"Name the folder in it: {snapshot}" if snapshot else "It has no snapshot yet."
        return f"{path}: a cache of the Hugging Face hub.  {advice}"
    if caches := _names(path, f"{_CACHE}*"):
        return (
            f"{path}: a cache of the Hugging Face hub, with {cut_list(caches)}.  Name a folder in "
            "its snapshots, such as "
            f"{_snapshot(path / caches[0]) or path / caches[0] / 'snapshots' / 'HASH'}"
        )
    return ""


def _snapshot(path: Path) -> Path | None:
    """Return the snapshot of the main branch in a cache, or else the last one."""
    main = path / "refs" / "main"
    if main.is_file():
        named = path / "snapshots" / main.read_text(encoding="utf-8").strip()
        if named.is_dir():
            return named
    folders = sorted(entry for entry in path.glob("snapshots/*") if entry.is_dir())
    return folders[-1] if folders else None


def _describe_library(folder: Path, opening: str) -> str:
    """Return for which other library a folder has weights; empty for other folders."""
    names = _names(folder, "*") + [f"onnx/{name}" for name in _names(folder, "onnx/*.onnx")]
    for ending, library in _LIBRARIES.items():
        if files := [name for name in names if name.endswith(ending)]:
            return f"{opening} for {library} only ({cut_list(files)}).  {_ORIGINAL}"
    return ""
