"""``regard export``: a model in the format of another library, compared with the original."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from regard.cli.outputs import as_json, is_readme_of_export, replacing_folder
from regard.cli.parameters import Flag, Name, Output
from regard.cli.predictors import open_for_verb
from regard.data.listing import list_first, pluralize
from regard.errors import ConfigError, WeightsError
from regard.hub.file_names import MODEL_CARD

if TYPE_CHECKING:
    from regard.runs.export_check import Exported
    from regard.runs.text_check import Peer, TextCheck

_NAMED_FILES = 3


def export(
    model: Annotated[str, Name],
    *,
    output: Annotated[str, Output],
    to: str = "hf",
    lang: str | None = None,
    verb: Literal["translate", "summarize", "answer"] | None = None,
    texts: Annotated[str | None, Name] = None,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Export a model to the format of another library, and check its outputs on real texts.

    Parameters
    ----------
    model
        Folder of a trained model.
    output
        Folder to write.
    to
        The format: hf (Hugging Face: config.json, safetensors, tokenizer.json), ctranslate2
        (Transformers that write texts: model.bin, tokenizer.json), onnx (graphs, tokenizer.json) or
        torch (programs of torch.export that need no regard: .pt2, tokenizer.json).
    lang
        Languages such as en-fr of a translator of many, which the exported model translates without
        further options; of a T5, which of its tasks is exported.
    verb
        What a published encoder-decoder is exported for, which its folder does not say: translate
        by default.
    texts
        File of texts, one a line, that go through the exported folder; without it the validation
        data of the run, if it is still there.
    json
        One JSON object instead of text.
    """
    from regard.hub.export import EXPORTS
    from regard.lazy import load
    from regard.runs.export_check import export_model

    before = _files_of_export(output)
    opened = open_for_verb(model, "cpu", verb, lang)
    with replacing_folder(output) as folder:
        exported = export_model(opened, folder, to, texts_path=texts)
        _require_own_readme(Path(output), folder)
        written = {path.name for path in folder.iterdir()}
    exported = msgspec.structs.replace(exported, folder=output)
    if before:
        _note_replaced(output, set(before) - written)
    if json:
        print(as_json(exported))
    else:
        print(f"Written {exported.folder}   {to}, model_type {exported.model_type}")
        peer: Peer = load(EXPORTS[to].peer)
        _print_numbers(exported, peer)
        command = f"regard export {model} -o {output} --to {to} --texts FILE"
        _print_check(exported.texts, peer, command)
    _require_equal(output, exported.texts)


def _require_equal(output: str, check: TextCheck) -> None:
    """Raise WeightsError, so that a script learns of it, where an export writes something else."""
    if check.num_texts and not check.is_equal:
        num_other = check.num_texts - check.num_equal
        raise WeightsError(
            f"{output}: written, but {num_other:,} of {check.num_texts:,} outputs differ in "
            f"{check.peer}.  Look at the first of them before you use the folder."
        )


def _require_own_readme(output: Path, folder: Path) -> None:
    """Check that an export replaces no README of another origin.

    Args:
        output: Folder of the export.
        folder: What is to be moved there.

    Raises:
        ConfigError: It would.
    """
    readme = output / MODEL_CARD
    is_replaced = readme.exists() and (folder / MODEL_CARD).exists()
    if is_replaced and not is_readme_of_export(readme):
        raise ConfigError(
            f"{readme}: no export wrote it, and this one would replace it; nothing was changed.  "
            "Export to a new folder."
        )


def _note_replaced(output: str, earlier: Collection[str]) -> None:
    """Say on standard error that a model was replaced, and which earlier files stay."""
    left = [name for name in sorted(earlier) if (Path(output) / name).exists()]
    stays = f"  As it was: {list_first(left, _NAMED_FILES)}." if left else ""
    print(f"{output}: the model that was there is replaced.{stays}", file=sys.stderr)


def _files_of_export(output: str) -> list[str]:
    """Return the names of what is in a folder that holds an earlier export; none of a new folder.

    Raises:
        ConfigError: It holds anything else; `transformers` writes its version into a model.
    """
    from regard.hub.file_names import EXPORTER, HF_CONFIG, visible_names
    from regard.hub.hugging_face.recognize import require_no_run
    from regard.hub.hugging_face.weight_files import read_optional_json

    folder = Path(output)
    require_no_run(folder)
    names = visible_names(folder)
    fields = {}
    with suppress(WeightsError):
        fields = read_optional_json(folder / HF_CONFIG)
    if "transformers_version" in fields:
        raise ConfigError(
            f"{output}: holds a model that transformers wrote.  Export to another folder."
        )
    if names and not fields.items() >= EXPORTER.items():
        raise ConfigError(
            f"{output}: holds {list_first(names, _NAMED_FILES)}, and no earlier export; nothing "
            "was changed.  Export to a new folder."
        )
    return names


def _print_numbers(exported: Exported, peer: Peer) -> None:
    """Print how far numbers are from those of the model, in what has read the folder."""
    pairs = (
        (exported.difference, "when read again"),
        (exported.peer_difference, f"in {peer.name}"),
    )
    differences = [f"{number:.1e} {where}" for number, where in pairs if number is not None]
    if differences:
        print(
            f"{peer.numbers}  largest difference {', '.join(differences)} "
            f"(the standard deviation of logits is {exported.scale:.2f})"
        )


def _print_check(check: TextCheck, peer: Peer, command: str) -> None:
    """Print what real texts gave, or the command that would check them."""
    plural = check.noun if check.noun == "series" else ""
    count = pluralize(check.num_texts, check.noun, plural)
    if not check.num_texts:
        advice = f"  Check: {command}" if check.needs_texts else ""
        print(f"Not checked on real texts: {check.reason}.{advice}")
        return
    tokens = "tokens and " if check.noun == "text" else ""
    search = "greedy " if check.beam > 1 else ""
    if check.is_equal:
        print(
            f"Equal   {count} ({check.source}) in {check.peer}: the same {tokens}{search}"
            f"outputs, numbers within {check.difference:.1e}"
        )
    else:
        num_other = check.num_texts - check.num_equal
        print(
            f"Differs {num_other} of {count} ({check.source}) in {check.peer}.  "
            f"First: {check.first}"
        )
    if search:
        print(
            f"Search  beam {check.beam}: {check.peer} {check.search_difference}, and "
            f"{check.num_equal_beams} of {count} have the same output there; {peer.greedy} gives "
            "the greedy ones"
        )
    if check.num_limited:
        print(
            f"Limit   outputs of {check.num_limited} of {count} end sooner here, by the length of "
            f"the source: {check.peer} has no such limit, but {peer.limit} for each text"
        )
