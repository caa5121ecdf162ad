"""Settings as structs: TOML, command-line words, checks of numbers."""
