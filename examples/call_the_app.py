"""Use a running app from another program: regions and answers come back as plain JSON types.

make app                                                   # in one terminal
python examples/call_the_app.py chest.png "Where are the lungs?" --modality CR
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from gradio_client import Client, handle_file


def call(
    url: str, image: str, question: str, phrases: list[str], modality: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the answer to `question`, and the regions of `phrases` (boxes xyxy in pixels of the image)."""
    app = Client(url, verbose=False)
    answer = app.predict(handle_file(image), question, modality, api_name="/ask")
    regions = app.predict(handle_file(image), phrases, 0.0, modality, api_name="/ground")
    return answer, regions


def main() -> None:
    """Ask once and print what came."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("image", help="a PNG, JPEG, TIFF, BMP, DICOM or NIfTI file")
    parser.add_argument("question")
    parser.add_argument("--phrases", nargs="+", default=["left lung", "right lung"], help="what to look for")
    parser.add_argument("--modality", default="", help="DICOM code such as CR; empty = what the file says")
    parser.add_argument("--url", default="http://127.0.0.1:7860")
    args = parser.parse_args()
    answer, grounding = call(args.url, args.image, args.question, args.phrases, args.modality)
    print(answer["answer"]["text"])
    print(json.dumps(grounding["regions"], indent=2))


if __name__ == "__main__":
    main()
