"""Tasks: one file of about 60 lines a benchmark, behind the protocol of `base`."""
