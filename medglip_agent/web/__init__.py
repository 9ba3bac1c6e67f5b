"""The web page: a chat about one image with its evidence beside it. Gradio lives here and in app.py only."""
