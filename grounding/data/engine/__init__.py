"""From any reader to the native form: regions, rows, blocks, splits, the build on one machine or many."""
