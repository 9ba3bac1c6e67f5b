"""One checkpoint as an ONNX file: one image, one prompt, boxes and logits.

The graph has fixed shapes, so that nothing in it depends on the data: a picture of the checkpoint's square
size and a prompt padded to ``--tokens``. Which tokens belong together is computed outside
(:func:`graph_inputs`). Writing needs the extra ``onnx``; the file runs wherever opset 16 does (GridSample).

    python -m grounding.onnx_export --checkpoint nano --out nano.onnx
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import (
    MMGroundingDinoMultiscaleDeformableAttention,
    generate_masks_with_special_tokens_and_transfer_map,
)

from .modeling import MedGLIPForGrounding, TextFeatures
from .prompts import MAX_TOKENS, PAD_ID, Prompt

OPSET = 16
INPUTS = ("pixel_values", "input_ids", "attention_mask", "attention", "position_ids", "modality_ids")
OUTPUTS = ("logits", "pred_boxes")


class ExportedGraph(nn.Module):
    """The network as a graph of plain operators: a copy, with the library's sampling by ``grid_sample``."""

    def __init__(self, model: MedGLIPForGrounding) -> None:
        """Copy the model; the one given stays as it is."""
        super().__init__()
        self.network = copy.deepcopy(model).float().eval()
        for module in self.network.modules():
            if isinstance(module, MMGroundingDinoMultiscaleDeformableAttention):
                module.__class__ = MMGroundingDinoMultiscaleDeformableAttention

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        attention: Tensor,
        position_ids: Tensor,
        modality_ids: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Logits (1, Q, T) and boxes (1, Q, 4) cxcywh in [0, 1], from what :func:`graph_inputs` makes."""
        image = self.network.encode_image(pixel_values)
        hidden = self.network.model.text_backbone(
            input_ids, attention[:, None], torch.zeros_like(input_ids), position_ids
        ).last_hidden_state
        text = TextFeatures(
            self.network.model.text_projection(hidden), attention_mask, attention, position_ids
        )
        output = self.network.ground(image, text, modality_ids)
        return output.logits, output.pred_boxes


def graph_inputs(
    pixel_values: Tensor, prompt: Prompt, modality_id: int, tokens: int = MAX_TOKENS
) -> dict[str, Tensor]:
    """The inputs of the graph, by name; ``.numpy()`` of each feeds an ONNX runtime.

    Args:
        pixel_values: (1, 3, size, size), as :func:`grounding.preprocess.preprocess` makes it.
        prompt: From :func:`grounding.packing.pack`.
        modality_id: ``config.modality_id(image.modality)``.
        tokens: T, the length that the graph was exported with.

    Raises:
        ValueError: If the prompt is longer than the graph.
    """
    count = len(prompt.input_ids)
    if count > tokens:
        raise ValueError(f"expected a prompt of at most {tokens} tokens, got {count}; ask for fewer phrases")
    ids = torch.full((1, tokens), PAD_ID)
    ids[0, :count] = torch.tensor(prompt.input_ids)
    delimiters = torch.tensor([101, 102, 1012, 1029])
    attention, positions = generate_masks_with_special_tokens_and_transfer_map(ids, delimiters)
    mask = torch.arange(tokens)[None] < count
    return dict(
        zip(
            INPUTS,
            (pixel_values, ids, mask, attention, positions, torch.tensor([modality_id])),
            strict=True,
        )
    )


def example_inputs(model: MedGLIPForGrounding, tokens: int) -> tuple[Tensor, ...]:
    """A grey picture and a prompt of one token, to trace the graph with."""
    size = model.config.image_size
    prompt = Prompt((101, 2540, 1012, 102), ((1, 2),))
    return tuple(graph_inputs(torch.zeros(1, 3, size, size), prompt, 0, tokens).values())


def export(model: MedGLIPForGrounding, path: Path, *, tokens: int = MAX_TOKENS) -> None:
    """Write ``model`` as ONNX.

    Args:
        model: A checkpoint of ours, whose input is a square.
        path: The file to write.
        tokens: Length of the prompt; shorter is faster.

    Raises:
        ImportError: If the package ``onnx`` is not installed.
    """
    if find_spec("onnx") is None:
        raise ImportError("expected the package onnx to write a graph: pip install 'med-glip-agent[onnx]'")
    torch.onnx.export(
        ExportedGraph(model),
        example_inputs(model, tokens),
        path,
        input_names=list(INPUTS),
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        dynamo=False,  # the newer exporter needs a second package, onnxscript
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Export a checkpoint."""
    parser = argparse.ArgumentParser(prog="python -m grounding.onnx_export", description=main.__doc__)
    parser.add_argument("--checkpoint", default="nano", help="a shipped name or a folder of ours")
    parser.add_argument("--tokens", type=int, default=MAX_TOKENS, help="length of the prompt")
    parser.add_argument("--out", type=Path, required=True, help="the .onnx file")
    args = parser.parse_args(argv)

    from .checkpoint import open_checkpoint

    export(open_checkpoint(args.checkpoint).model, args.out, tokens=args.tokens)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, opset {OPSET}")


if __name__ == "__main__":
    main()
