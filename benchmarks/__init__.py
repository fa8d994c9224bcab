"""Side-by-side measurements; each prints a table and can write JSON.

uv run python -m benchmarks classify
"""
