"""Settings as structs: TOML, command-line words, checks of numbers."""

from typing import TYPE_CHECKING

from regard.lazy import import_lazily

if TYPE_CHECKING:
    from regard.settings.binding import (
        bind,
        check_type,
        describe,
        from_toml,
        merge,
        parse_settings,
        to_toml,
    )
    from regard.settings.tagged import TaggedStructs
    from regard.settings.validation import (
        require_at_least,
        require_at_most,
        require_finite,
        require_fraction,
        require_number,
        require_positive,
        require_probability,
        require_texts,
    )
    from regard.settings.values import convert_value, describe_values, parse_toml

import_lazily(__name__)

__all__ = [
    "TaggedStructs",
    "bind",
    "check_type",
    "convert_value",
    "describe",
    "describe_values",
    "from_toml",
    "merge",
    "parse_settings",
    "parse_toml",
    "require_at_least",
    "require_at_most",
    "require_finite",
    "require_fraction",
    "require_number",
    "require_positive",
    "require_probability",
    "require_texts",
    "to_toml",
]
