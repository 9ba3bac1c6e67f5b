"""Readers of visual question answering data; they know files and records, no model."""
