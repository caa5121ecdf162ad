"""The tasks: examples -> batch -> loss, generate -> metric, and the runs made of them."""
