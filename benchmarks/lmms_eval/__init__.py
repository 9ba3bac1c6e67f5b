"""VQA-RAD and SLAKE as tasks of lmms-eval, judged as our own runs are; see docs/benchmarks.md."""
