"""Readers of boxes and masks, and the phantoms."""
