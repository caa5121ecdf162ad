"""``regard demo``: train and try a model on the embedded corpus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from regard.cli.console import make_report
from regard.cli.live import LiveOptions, show_live
from regard.cli.outputs import as_json
from regard.cli.parameters import Flag, Output
from regard.errors import ConfigError
from regard.settings.validation import LARGEST, require_range

if TYPE_CHECKING:
    from regard.runs.demo import DemoReport

_NO_PAGE = LiveOptions()


def demo(
    *,
    output: Annotated[str, Output] = "demo",
    minutes: float = 3.5,
    seed: int = 1,
    device: str = "auto",
    live_options: LiveOptions = _NO_PAGE,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Train and try a model on the embedded corpus, in minutes.

    The corpus is made from Unicode CLDR: dates, times, durations, currency amounts and numbers with
    units, English into German, French and Chinese. Nothing is downloaded. A model that is already
    in the folder is used as it is.

    Parameters
    ----------
    output
        Folder of the model.
    minutes
        Time budget of the training.
    seed
        Seed of corpus and training.
    device
        What computes: cpu, cuda (a GPU; of several, cuda:N), or auto, a GPU where there is one.
    live_options
        Whether a page shows the run, and where.
    json
        One JSON object per event instead of text.
    """
    start_time = time.monotonic()
    require_range("--seed", seed, 0, LARGEST)
    if not 0 < minutes <= LARGEST:
        raise ConfigError(f"--minutes {minutes}: must be above 0.")
    live_options.check()
    from regard.hub.model_folder import ModelFolder
    from regard.runs.demo import run_demo

    live = _NO_PAGE if ModelFolder(output).is_finished else live_options
    with make_report(json=json) as both, show_live(live, output, both, json=json) as report:
        result = run_demo(
            output,
            minutes=minutes,
            seed=seed,
            device=device,
            report=report,
            start_time=start_time,
        )
    page = _explain(result, device)
    if json:
        print(as_json({**msgspec.to_builtins(result), "page": page}))
    else:
        _print(result, page)


def _explain(result: DemoReport, device: str) -> str:
    """Write the page that explains the first example, and return its name."""
    from regard.explain import ModelFacts, explain, save_page
    from regard.runs.information import hash_weights
    from regard.tasks.opening import open_model

    page = Path(result.folder) / "explained.html"
    source, _ = result.examples[0]
    facts = ModelFacts(page.parent.name, hash_weights(result.folder))
    save_page(explain(open_model(result.folder, device), source, facts=facts), page)
    return str(page)


def _print(result: DemoReport, page: str) -> None:
    from regard.runs.demo import draw_alignment

    languages = ", ".join(
        f"{name} {100 * fraction:.1f}" for name, fraction in result.by_language.items()
    )
    kinds = ", ".join(f"{name} {100 * fraction:.1f}" for name, fraction in result.by_kind.items())
    num_phrases = f"{result.num_phrases:,}"
    print(f"\nexact match {100 * result.exact_match:.1f} % of {num_phrases} ({languages})")
    print(f"            {kinds}   phrases that are not in the training data\n")
    for source, output in result.examples:
        print(f"  {source}  ->  {output}")
    source, output = result.examples[0]
    print(f"\nWhere the model looked while it wrote {output!r}, from {source!r}:\n")
    print(draw_alignment(result.alignment))
    print("\nTry     " + f'regard translate {result.folder} "<fr> in 3 hours"')
    print(f'        regard translate {result.folder} "<zh> May 4, 2031" --align')
    print(f"        regard info {result.folder}")
    print(f'        regard explain {result.folder} "<fr> in 3 hours" -o why.html')
    print("        regard train pairs.tsv -o mymodel      your own text")
    print(f"\nWhy it wrote {output!r}: open {page} in a browser.")
