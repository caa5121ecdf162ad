"""The rules by which `regard.data.splits.rows_to_hold_out` decides, by version."""

EARLIER_SPLIT, SPLIT_RULE = 1, 2
"""The rule of earlier versions, and the rule now."""
