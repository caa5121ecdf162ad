"""Line searches by name, one file a search, and their first step."""

from __future__ import annotations

from collections.abc import Callable

from regard.errors import ConfigError
from regard.optim.line_search.armijo import Armijo
from regard.optim.line_search.base import Search
from regard.optim.line_search.hager_zhang import HagerZhang
from regard.optim.line_search.strong_wolfe import StrongWolfe

SEARCHES: dict[str, Callable[[], Search]] = {
    "hager-zhang": HagerZhang,
    "strong-wolfe": StrongWolfe,
    "armijo": Armijo,
}


def search_named(search: str | Search) -> Search:
    """Return the search of a name, or the given one.

    Raises:
        ConfigError: There is no such search.
    """
    if not isinstance(search, str):
        return search
    if search not in SEARCHES:
        raise ConfigError(f"unknown search {search!r}.  One of: {', '.join(SEARCHES)}")
    return SEARCHES[search]()
