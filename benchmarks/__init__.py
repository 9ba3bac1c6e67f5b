"""Benchmarks: tasks, metrics, statistics and the commands that run them. They call the product, never the reverse."""
