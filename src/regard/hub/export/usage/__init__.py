"""What ``README.md`` of an exported ONNX folder shows, one module a kind of model.

The modules import nothing of regard: their text is what the README holds, and the same code reads
real texts and inputs in the check of an export.
"""
