"""Metrics of answers (`vqa_*.py`) and reports (`report_*.py`), each of which loads by `evaluate.load(path)`.

The pure functions lie in the modules beside them. A module that loads by path names each helper file itself,
in imports of one line: that is what `evaluate` copies. docs/scoring.md says what each figure means.
"""
