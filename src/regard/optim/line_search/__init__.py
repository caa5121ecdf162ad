"""Line searches by name, one file a search, and how long their first step is."""

from __future__ import annotations

from collections.abc import Callable

from regard.errors import ConfigError
from regard.optim.line_search.armijo import Armijo
from regard.optim.line_search.hager_zhang import HagerZhang
from regard.optim.line_search.strong_wolfe import StrongWolfe
from regard.optim.line_search.trial import LineSearch
from regard.option_checks import require_callable

LINE_SEARCHES: dict[str, Callable[[], LineSearch]] = {
    "hager-zhang": HagerZhang,
    "strong-wolfe": StrongWolfe,
    "armijo": Armijo,
}


def build_line_search(search: str | LineSearch) -> LineSearch:
    """Return the line search of a name; a search is returned unchanged.

    Raises:
        ConfigError: The name is unknown, or it is neither a name nor a search.
    """
    if not isinstance(search, str):
        require_callable("search", search, f"{', '.join(LINE_SEARCHES)}, or a line search")
        return search
    if search not in LINE_SEARCHES:
        raise ConfigError(f"unknown search {search!r}.  One of: {', '.join(LINE_SEARCHES)}")
    return LINE_SEARCHES[search]()
