"""`python -m grounding.evaluate --data-dir DATA --sets cxr_lungs,ct_organs --out results.json`."""

from .command import main

main()
