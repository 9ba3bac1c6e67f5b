"""`medglip serve`: the agent behind an OpenAI-compatible HTTP interface, with the grounding in each reply."""
