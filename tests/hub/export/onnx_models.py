"""Small models of every kind that is exported to ONNX, and their README as a program."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from tests.models.published_weights import spread
from torch import Tensor

from regard.data.masking import MASK
from regard.data.tokenizer import Tokenizer, TokenizerConfig
from regard.hub.export import graph_folder
from regard.hub.export import onnx as onnx_format
from regard.hub.export.graph import Graph
from regard.layers.attention_config import AttentionConfig
from regard.runs.export_check import export_model
from regard.setup.config import DataConfig, QuestionAnsweringConfig, RunConfig
from regard.tasks import task_named

TEXTS = ["7 red cat sees the tree", "a\n\n old dog\n", "the red tree likes " * 9, "Fluß", "</s> x"]
ENCODER: dict[str, Any] = {
    "num_layers": 1,
    "dim": 16,
    "num_heads": 2,
    "hidden_dim": 24,
    "max_positions": 32,
    "has_mlm_head": False,
}


def train_tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS * 3, TokenizerConfig(vocab_size=300, tags=(MASK,)))


def opened(task: str, model: Any, tokenizer: Tokenizer | None = None, **settings: Any) -> Any:
    """Return a model of drawn weights, ready for use."""
    data = {"max_length": 24} | settings.pop("data", {})
    config = RunConfig(task=task, model=model, data=DataConfig(**data), **settings)
    built = task_named(task).for_config(config).build(config, len(tokenizer or ()))
    spread(built, gain=1.0)
    return task_named(task).for_config(config).predictor(built.eval(), tokenizer, config)


def text_classifier(
    model: Any,
    tokenizer: Tokenizer,
    attention: str = "full",
    labels: tuple[str, ...] = ("joy", "anger", "fear"),
) -> Any:
    classifier = opened(
        "classification",
        model,
        tokenizer,
        data={"labels": labels},
        attention=AttentionConfig(encoder=attention),
    )
    torch.nn.init.normal_(classifier.model.output_weight)
    return classifier


def answerer(model: Any, tokenizer: Tokenizer, overlap: int = 6) -> Any:
    qa = QuestionAnsweringConfig(overlap=overlap, max_answer_tokens=5)
    found = opened("question-answering", model, tokenizer, qa=qa, data={"max_length": 30})
    torch.nn.init.normal_(found.model.output_weight)
    return found


def readme_names(folder: Path, monkeypatch: Any) -> dict[str, Any]:
    """Run the lines of a README in its folder; return what they define."""
    monkeypatch.chdir(folder)
    lines = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert lines is not None
    names: dict[str, Any] = {}
    exec(compile(lines[1], "README.md", "exec"), names)
    return names


def export_untraced(model: Any, folder: Path, monkeypatch: Any, **options: Any) -> Any:
    """Export a model without its graph, which PyTorch computes from then on in this test."""

    graphs: dict[str, Graph] = {}

    def keep(graph: Graph, path: Path, _metadata: Any) -> None:
        graphs[path.name] = graph

    monkeypatch.setattr(TracelessSession, "graphs", graphs, raising=False)
    monkeypatch.setattr(onnx_format, "ONNX", onnx_format.ONNX._replace(write=keep))
    monkeypatch.setattr(graph_folder, "check_shapes", lambda *_: None)
    monkeypatch.setattr("onnxruntime.InferenceSession", TracelessSession)
    return export_model(model, folder, "onnx", **options)


class TracelessSession:
    """Stands for a session of onnxruntime: computes a graph by PyTorch, which takes no tracing."""

    graphs: ClassVar[dict[str, Graph]]

    def __init__(self, path: str) -> None:
        self.graph = self.graphs[Path(path).name]

    def get_inputs(self) -> list[Any]:
        example, axes = self.graph.example(), self.graph.inputs
        return [
            SimpleNamespace(name=n, shape=[axes[n].get(i, size) for i, size in enumerate(x.shape)])
            for n, x in example.items()
        ]

    @torch.inference_mode()
    def run(self, names: list[str], arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        inputs: dict[str, Tensor] = {n: torch.from_numpy(a) for n, a in arrays.items()}
        outputs = self.graph.compute(inputs)
        return [outputs[name].numpy() for name in names]
