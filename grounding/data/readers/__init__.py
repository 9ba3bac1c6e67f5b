"""Readers of published layouts; each module owns one or a family of them."""
