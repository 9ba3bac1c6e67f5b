"""How fast the grounder answers, beside the library's own call of the same network with the same weights.

    python benchmarks/bench_grounding.py --case tiny-800 --workload one --out bench

Stock is ``MMGroundingDinoForObjectDetection`` with the library's kernels: one full call an image and phrase
list. Ours is :class:`grounding.Grounder` in bfloat16, to its regions, with nothing kept from the turn before.
Both take turns, so that they see the machine in the same state. Weights of the tiny size are random: speed
does not depend on them, agreement is measured on the same ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

ROOT: Final = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.run_latency import peak_memory_mib  # noqa: E402
from grounding.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from grounding.model_config import MedGLIPConfig  # noqa: E402
from grounding.modeling import MedGLIPForGrounding  # noqa: E402
from grounding.predictor import Grounder  # noqa: E402
from grounding.preprocess import SquareInput  # noqa: E402
from grounding.prompts import build_prompt, load_tokenizer  # noqa: E402
from grounding.types import MedicalImage  # noqa: E402

if TYPE_CHECKING:
    from transformers import MMGroundingDinoForObjectDetection

WORDS: Final = "lung heart liver spleen kidney polyp nodule vessel optic-disc tumour fracture cell".split()
SIDES: Final = ("left", "right", "upper", "lower", "large", "small", "dark", "bright", "round", "long")
CASES: Final = {"tiny-800": 800, "tiny-384": 384, "nano": 0}
WORKLOADS: Final = ("one", "lists-packed", "lists-unpacked", "images", "phrases")


@dataclass(frozen=True)
class Workload:
    """What is asked: one phrase list an entry, of the image with that index.

    Attributes:
        images: How many images.
        asked: (image, phrases) of every stock call.
        packed: Whether ours may join the lists of an image in shared passes.
    """

    images: int
    asked: tuple[tuple[int, tuple[str, ...]], ...]
    packed: bool


def make_workload(name: str) -> Workload:
    """The workload of that name: lists of four phrases, or 100 phrases of one image.

    100 phrases exceed one prompt; stock asks them in as many calls as its 256 tokens demand.
    """
    phrases = [f"{side} {word}" for word in WORDS for side in SIDES]
    lists = [tuple(phrases[start : start + 4]) for start in range(0, 40, 4)]
    if name == "one":
        return Workload(1, ((0, lists[0]),), True)
    if name == "images":
        return Workload(8, tuple((image, lists[0]) for image in range(8)), True)
    if name == "phrases":
        return Workload(1, tuple((0, tuple(phrases[start : start + 50])) for start in (0, 50)), True)
    return Workload(1, tuple((0, each) for each in lists), name == "lists-packed")


def tiny_config() -> MedGLIPConfig:
    """MM-Grounding-DINO-T as published: Swin-T, BERT, 6 + 6 layers of width 256, 900 queries."""
    from transformers import BertConfig, SwinConfig

    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage2", "stage3", "stage4"],
    )
    return MedGLIPConfig(backbone_config=swin, text_config=BertConfig(), presence=False)


def load_case(name: str) -> Checkpoint:
    """The packaged nano, or the tiny size with random weights at the case's resolution."""
    if name == "nano":
        return open_checkpoint("nano")
    torch.manual_seed(0)
    model = MedGLIPForGrounding(tiny_config()).eval()
    return Checkpoint(model, SquareInput(CASES[name]), load_tokenizer(), None)


def stock_of(model: MedGLIPForGrounding) -> MMGroundingDinoForObjectDetection:
    """The library's network with the library's kernels and the same weights.

    Raises:
        ValueError: If a weight of the library's network is missing.
    """
    from transformers import MMGroundingDinoForObjectDetection

    stock = MMGroundingDinoForObjectDetection(model.config)
    result = stock.load_state_dict(model.state_dict(), strict=False)
    if result.missing_keys:
        raise ValueError(f"expected every weight of the library's network, missing {result.missing_keys[:3]}")
    return stock.eval().requires_grad_(False)


class Stock:
    """The library's full call for every image and phrase list."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        """Takes a copy of the checkpoint's weights."""
        self.model = stock_of(checkpoint.model).to(device)
        self.checkpoint, self.device = checkpoint, device

    @torch.inference_mode()
    def call(self, image: MedicalImage, phrases: Sequence[str]) -> Any:
        """The library's output for one image and list."""
        prompt = build_prompt(self.checkpoint.tokenizer, phrases)
        ids = torch.tensor([prompt.input_ids], device=self.device)
        pixels = self.checkpoint.make_input(image.pixels)[None].to(self.device)
        return self.model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))

    def run(self, images: Sequence[MedicalImage], workload: Workload, autocast: bool) -> None:
        """Answer a workload, in float32 or under bfloat16 autocast."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            for index, phrases in workload.asked:
                self.call(images[index], phrases).logits.max().item()


def run_ours(grounder: Grounder, images: Sequence[MedicalImage], workload: Workload) -> None:
    """Answer a workload with the grounder: images in batches, lists joined or one pass each.

    Prompts are read anew, as stock has to: the grounder would keep them from the turn before.
    """
    grounder._text.cache_clear()
    grounder._packing.cache_clear()
    if workload.images > 1:
        grounder.ground_batch(images, [phrases for _, phrases in workload.asked], box_threshold=0.0)
        return
    encoded = grounder.set_image(images[0])
    if workload.packed:
        encoded.ground([phrase for _, phrases in workload.asked for phrase in phrases], box_threshold=0.0)
        return
    for _, phrases in workload.asked:
        encoded.ground(phrases, box_threshold=0.0)


def take_turns(
    runs: Mapping[str, Callable[[], None]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of every run, ``repeats`` times in turn, after one turn to warm up; says what it is doing."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            _synchronise()
            start = clock()
            run()
            _synchronise()
            taken = clock() - start
            print(
                f"  {'warm-up' if turn == 0 else f'turn {turn}/{repeats}'}  {name}: {taken:.2f} s", flush=True
            )
            if turn:
                seconds[name].append(taken)
    return seconds


@torch.inference_mode()
def drift(stock: Stock, grounder: Grounder, image: MedicalImage, phrases: Sequence[str]) -> dict[str, float]:
    """How far our boxes and scores are from stock float32's when both decode the same proposals.

    Returns:
        ``box_median`` and ``box_max`` in pixels of the network's input (edges of xyxy boxes, over all
        queries), ``score_median`` and ``score_max`` (per query and token).
    """
    expected = stock.call(image, phrases)
    proposals = expected.init_reference_points
    model: Any = grounder.model
    model._choose = lambda *candidates: proposals
    try:
        prompt = build_prompt(stock.checkpoint.tokenizer, phrases)
        ids = torch.tensor([prompt.input_ids], device=stock.device)
        pixels = stock.checkpoint.make_input(image.pixels)[None].to(stock.device)
        got = model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))
    finally:
        del model._choose
    height, width = pixels.shape[-2:]
    side = torch.tensor([width, height, width, height], device=stock.device)
    boxes = ((_edges(got.pred_boxes) - _edges(expected.pred_boxes)) * side).abs().flatten()
    length = got.logits.shape[-1]
    scores = (got.logits.sigmoid() - expected.logits[..., :length].sigmoid()).abs().flatten()
    return {
        "box_median": boxes.median().item(),
        "box_max": boxes.max().item(),
        "score_median": scores.median().item(),
        "score_max": scores.max().item(),
    }


def _edges(boxes: Tensor) -> Tensor:
    """Boxes cxcywh as xyxy."""
    centre, size = boxes.float().chunk(2, -1)
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of one run: matrix products, convolutions, attention.

    Torch's counter does not know the CPU's attention and its convolution with ReLU6.
    """
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    def attention(query: Sequence[int], key: Sequence[int], *rest: Any, **options: Any) -> int:
        return 4 * math.prod(query) * key[2]  # two products

    def convolution(x: list[int], weight: list[int], *rest: Any, out_shape: list[int]) -> int:
        return conv_flop_count(x, weight, out_shape)

    mapping: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        mapping[torch.ops.mkldnn._convolution_pointwise] = convolution
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        run()
    return int(counter.get_total_flops())


def matrix_rate(device: torch.device, clock: Callable[[], float], size: int = 4096) -> float:
    """Operations a second of a bfloat16 matrix product, the best of five."""
    left = torch.randn(size, size, device=device).bfloat16()
    taken = []
    for _ in range(5):
        _synchronise()
        start = clock()
        left @ left
        _synchronise()
        taken.append(clock() - start)
    return 2 * size**3 / min(taken)


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_mib(device: torch.device) -> float:
    """Peak memory of the process so far in MiB, both networks in it: on the card, or resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1024**2
    return peak_memory_mib()


def make_images(count: int, side: int) -> list[MedicalImage]:
    """Square pictures of smoothed noise."""
    generator = np.random.default_rng(0)
    block = 8
    small = generator.integers(0, 255, (count, -(-side // block), -(-side // block), 3), dtype=np.uint8)
    large = small.repeat(block, axis=1).repeat(block, axis=2)[:, :side, :side]
    return [MedicalImage.from_array(np.ascontiguousarray(picture)) for picture in large]


def measure(
    checkpoint: Checkpoint,
    names: Sequence[str],
    *,
    device: torch.device,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """The workloads of one case, stock and ours in turn; see the module for what is compared."""
    checkpoint.model.config.modality_conditioning = False  # the library's network has none
    stock = Stock(checkpoint, device)
    grounder = Grounder(checkpoint, "bench", device, torch.bfloat16)
    side = checkpoint.make_input.size if isinstance(checkpoint.make_input, SquareInput) else 800
    rate = matrix_rate(device, clock)
    rows: list[dict[str, Any]] = []
    for name in names:
        workload = make_workload(name)
        images = make_images(workload.images, side)
        print(f"{name}: {len(workload.asked)} stock calls", flush=True)
        runs = {
            "stock_fp32": lambda w=workload, i=images: stock.run(i, w, False),
            "ours": lambda w=workload, i=images: run_ours(grounder, i, w),
            "stock_bf16": lambda w=workload, i=images: stock.run(i, w, True),
        }
        seconds = {key: statistics.median(each) for key, each in take_turns(runs, repeats, clock).items()}
        rows.append(
            {
                "workload": name,
                "images": workload.images,
                "seconds": seconds,
                "ratio_fp32": seconds["stock_fp32"] / seconds["ours"],
                "ratio_bf16": seconds["stock_bf16"] / seconds["ours"],
                "images_per_second": workload.images / seconds["ours"],
                "peak_mib": _peak_mib(device),
            }
        )
    image, phrases = make_images(1, side)[0], make_workload("one").asked[0][1]
    flops = {
        "stock": count_flops(lambda: stock.call(image, phrases)),
        "ours": count_flops(lambda: run_ours(grounder, [image], make_workload("one"))),
    }
    for row in rows:  # of one image and list; a batch of images does that many times the work
        known = row["workload"] in ("one", "images")
        row["limit_seconds"] = flops["stock"] * row["images"] / rate if known else None
        work = flops["ours"] * row["images"]
        row["share_of_peak"] = work / rate / row["seconds"]["ours"] if known else None
    return {
        "workloads": rows,
        "drift": drift(stock, grounder, image, phrases),
        "gflop": {key: value / 1e9 for key, value in flops.items()},
        "bf16_tflops": rate / 1e12,
        "machine": _machine(device),
    }


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "CPU",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
    }


def table(case: str, result: Mapping[str, Any]) -> str:
    """The figures of one case as markdown."""
    lines = [
        f"### {case}",
        "",
        "| workload | stock fp32 s | stock bf16 s | ours s | fp32 / ours | bf16 / ours "
        "| images/s | limit s | share of peak | process peak MiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["workloads"]:
        seconds, limit = row["seconds"], row["limit_seconds"]
        cells = [f"{seconds[key]:.2f}" for key in ("stock_fp32", "stock_bf16", "ours")]
        cells += [f"{row['ratio_fp32']:.1f}", f"{row['ratio_bf16']:.1f}", f"{row['images_per_second']:.2f}"]
        cells += ["", ""] if limit is None else [f"{limit:.2f}", f"{row['share_of_peak']:.0%}"]
        cells.append(f"{row['peak_mib']:.0f}")
        lines.append(f"| {row['workload']} | {' | '.join(cells)} |")
    far, flops, machine = result["drift"], result["gflop"], result["machine"]
    lines += [
        "",
        f"Drift from stock fp32 under the same proposals: boxes {far['box_median']:.3f} px median, "
        f"{far['box_max']:.2f} px at most; scores {far['score_median']:.5f} median, "
        f"{far['score_max']:.4f} at most.",
        f"One image and list: {flops['stock']:.0f} GFLOP stock, {flops['ours']:.0f} ours, at a measured "
        f"{result['bf16_tflops']:.2f} TFLOP/s (bf16 product); the limit is stock's GFLOP at that rate.",
        f"Machine: {machine['device']}, {machine['cpus']} CPUs, {machine['threads']} threads, "
        f"load {machine['load_average']:.1f}, torch {machine['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the cases and workloads asked, print a table a case, write JSON and markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--case", choices=sorted(CASES), action="append", help="default: all; repeatable")
    parser.add_argument("--workload", choices=WORKLOADS, action="append", help="default: all; repeatable")
    parser.add_argument("--repeats", type=int, default=3, help="turns after the one to warm up (default: 3)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the process's seconds, not the wall's (one thread only)",
    )
    parser.add_argument("--out", type=Path, help="folder for CASE.json and CASE.md")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    for case in args.case or CASES:
        result = measure(
            load_case(case),
            args.workload or WORKLOADS,
            device=torch.device(args.device),
            repeats=args.repeats,
            clock=time.process_time if args.cpu_time else time.perf_counter,
        )
        print(table(case, result))
        if args.out is not None:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / f"{case}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
            (args.out / f"{case}.md").write_text(table(case, result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
