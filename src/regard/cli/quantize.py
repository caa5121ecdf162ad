"""``regard quantize``: a model folder with weights of 8 bits, compared with the original."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from regard.cli.outputs import as_json, replacing_folder
from regard.cli.parameters import Flag, Name, Output
from regard.errors import ConfigError


def quantize(
    model: Annotated[str, Name],
    *,
    output: Annotated[str, Output],
    threads: int | None = None,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Write a model folder with weights of 8 bits, for the compiled decoder.

    Parameters
    ----------
    model
        Folder of a trained model that translates or summarizes.
    output
        Folder to write, new or empty. It translates, summarizes and is evaluated like the model.
    threads
        Threads of the processor; the default is one for each core.
    json
        One JSON object instead of text.
    """
    from regard.hub.file_names import CONFIG
    from regard.runs.quantize import quantize_folder
    from regard.training.device import use_threads

    use_threads(threads)
    if (Path(output) / CONFIG).exists():
        raise ConfigError(f"{output}: holds a model of regard.  Write to another folder.")
    if Path(output).is_dir() and (name := next(Path(output).iterdir(), None)) is not None:
        raise ConfigError(f"{output}: not empty: it has {name.name}.  Write to a new folder.")
    with replacing_folder(output) as folder:
        quantized = quantize_folder(model, folder)
    quantized = msgspec.structs.replace(quantized, folder=output)
    if json:
        print(as_json(quantized))
        return
    before, after = quantized.bytes_before / 1e6, quantized.bytes_after / 1e6
    print(f"Written {output}   weights {before:.1f} MB -> {after:.1f} MB")
    quality = quantized.quality
    if quality is None:
        reason = quantized.reason
        print(f"Quality not measured: {reason}.  Measure: regard evaluate {output} FILE")
        return
    pairs = (("BLEU", quality.bleu), ("chrF", quality.chrf), ("ROUGE-L", quality.rouge_l))
    scores = [f"{name} {pair[0]:.2f} -> {pair[1]:.2f}" for name, pair in pairs if pair]
    print(
        f"Quality {quality.num_rows:,} validation rows   {'   '.join(scores)}   "
        f"equal outputs {quality.equal:.1f} %"
    )
