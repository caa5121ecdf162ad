"""What ``README.md`` of an exported graph shows: one module a kind of model, one a kind of session.

The modules import nothing of regard: their text is what the README holds, and the same code reads
real texts and inputs in the check of an export.
"""
