"""Metrics of text answers. Each `vqa_*.py` also loads by `evaluate.load(path)`: one import a line there."""
