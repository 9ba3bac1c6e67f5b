"""Metrics of text answers. Each `vqa_*.py` is also a local module for `evaluate.load(path)`: one import a line there."""
