"""The page of a service: a box for a text, the model's output, and then its explanation.

The page has no explanation of its own. It posts what is typed to ``v1/VERB``, shows the output,
posts the same to ``explain``, and draws what comes back (`page_payload`) as `page_html` does. The
addresses are relative, so that the service may be behind another one, under a path of it.
"""

from __future__ import annotations

import msgspec

from regard.explain.page.html_page import MODULES, STYLES
from regard.explain.page.self_contained import html_file


class ServedModel(msgspec.Struct, frozen=True, kw_only=True):
    """The model that a service has, as its page names it.

    Args:
        name: Name of its folder.
        sha: The first digits of the hash of its weights; empty where it has no folder.
        task: That it was trained for, such as ``translation``.
        verb: Last part of the address that answers: ``translate``, ``summarize``, ``answer``,
            ``classify``, ``generate``, ``forecast`` or ``embed``.
        family: Name of its architecture.
        num_parameters: Numbers in its weights.
        takes_text: Whether a text that is typed can be explained; else the page shows how to ask by
            a command.
        max_characters: Of the longest text that the service takes.
        source_language: Name of the language that is read; empty where it is not known.
        target_language: Name of the language that is written; empty where it is not known.
        examples: Texts that a click puts into the box, at most 3.
        curl: Arguments of ``curl`` that send an input to ``v1/VERB``, in place of a JSON text, such
            as ``--data-binary @scan.png``; empty sends a text.
    """

    name: str
    sha: str = ""
    task: str
    verb: str
    family: str
    num_parameters: int
    takes_text: bool
    max_characters: int
    source_language: str = ""
    target_language: str = ""
    examples: list[str] = []
    curl: str = ""


def served_page(model: ServedModel) -> str:
    """Return the page of a service as the text of an HTML file.

    Args:
        model: The model that answers.
    """
    return html_file(
        title=f"regard · {model.name}",
        styles=(*STYLES, "ask.css"),
        modules=(*MODULES, "service.js", "question_box.js", "ask.js"),
        payload=model,
        text=_describe(model),
        asks_service=True,
    )


def _describe(model: ServedModel) -> str:
    """Return what the page says where no script runs."""
    facts = (
        model.name,
        model.task.replace("_", " "),
        model.family,
        model.sha and f"sha {model.sha}",
    )
    return f"{' · '.join(filter(None, facts))}\nPrograms ask it at v1/{model.verb}, with POST."
