"""Benchmarks: tasks, metrics, statistics and their commands. They call the product, never the reverse."""
