"""``regard export``: a model in the format of another library, compared with the original."""

from __future__ import annotations

from typing import Annotated

import msgspec

from regard.cli.parameters import Flag, Name, Output


def export(
    model: Annotated[str, Name],
    *,
    output: Annotated[str, Output],
    to: str = "hf",
    json: Annotated[bool, Flag] = False,
) -> None:
    """Export a model to the format of another library, and check that its outputs are equal.

    Parameters
    ----------
    model
        Folder of a trained model.
    output
        Folder to write.
    to
        The format: hf (Hugging Face: config.json, safetensors, tokenizer.json).
    json
        One JSON object instead of text.
    """
    from regard.runs.export_check import export_model
    from regard.tasks.loading import open_model

    exported = export_model(open_model(model), output, to)
    if json:
        print(msgspec.json.encode(exported).decode())
        return
    print(f"Written {exported.folder}   {to}, model_type {exported.model_type}")
    print(
        f"Equal   largest difference of a logit {exported.difference:.1e} when read again "
        f"(their standard deviation is {exported.scale:.2f})"
    )
    if exported.peer_difference is not None:
        print(f"        {exported.peer_difference:.1e} against transformers")
