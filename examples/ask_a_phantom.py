"""Use the library: draw a phantom, ask about it, write the annotated picture.

python examples/ask_a_phantom.py chest-answer.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from grounding.data.phantoms import make_phantom
from medglip_agent import MedGLIPAgent
from medglip_agent.exports import Result, models_of, write_export


def main(out: Path) -> None:
    """Ask, print the answer with its evidence, write the picture."""
    phantom = make_phantom("CR", seed=0)
    agent = MedGLIPAgent.from_pretrained()
    question = "Where are the lungs?"
    answer = agent.ask(phantom.image, question)
    print(answer.text)
    for region in answer.regions:
        print(f"R{region.index + 1}", region.phrase, f"{region.score:.2f}", region.box.round(1).tolist())
    write_export(out, Result(phantom.image, answer, models_of(agent), question))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "phantom-answer.png"))
