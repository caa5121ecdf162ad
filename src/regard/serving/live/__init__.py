"""A run on a page while it trains: `serve_run` shows the events that it gets.

A thread of its own answers, in bounded memory, and nothing that happens there comes back to the
run. It needs the extra ``[serve]``.
"""
