"""``regard export``: a model in the layout of others, compared with the one it was made from."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from regard.cli.parameters import Flag, Output


def export(
    model: str,
    *,
    output: Annotated[str, Output],
    to: Literal["hf"] = "hf",
    json: Annotated[bool, Flag] = False,
) -> int:
    """Write a model for others to open, and check that the outputs are equal.

    Parameters
    ----------
    model
        Folder of a trained model.
    output
        Folder to write.
    to
        The layout: hf (Hugging Face: config.json, safetensors, tokenizer.json).
    json
        One JSON object instead of text.
    """
    from regard.runs.published_models import export_hugging_face
    from regard.tasks.loading import open_model

    found = export_hugging_face(open_model(model), output)
    if json:
        print(msgspec.json.encode(found).decode())
        return 0
    print(f"Written {found.folder}   {to}, model_type {found.model_type}")
    print(
        f"Equal   largest difference of a logit {found.difference:.1e} when read again "
        f"(their standard deviation is {found.scale:.2f})"
    )
    if found.peer_difference is not None:
        print(f"        {found.peer_difference:.1e} against transformers")
    return 0
