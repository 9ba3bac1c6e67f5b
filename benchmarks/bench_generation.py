"""How much faster questions are answered where images and prompts are read once, and whether alike.

    python benchmarks/bench_generation.py --out generation_speed.json
    python benchmarks/bench_generation.py --data-dir DATA --out generation_speed.json

Two measurements against plain ``generate``, which reads picture and prompt anew for every question: some
questions on one image asked at once, and many questions on several images in batches. Both sides run the same
weights on the same prompts, greedily; the plain one in float32, ours as it is loaded by default. Answers that
differ are listed with the margin, the smallest difference of the two largest logits along the reply: where it
is tiny, rounding decides. Images are phantoms with their true regions, or those of a split of VQA-RAD with
the grounder's regions. Seconds of the processor are given beside the clock's: other programs lengthen those
less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any, get_args

import torch

from grounding.data.phantoms import MODALITIES, make_phantom
from grounding.types import MedicalImage
from llm.config import ModelConfig
from llm.data.vqa_rad import Split, read_vqa_rad
from llm.generate import VisionLanguageModel
from llm.replies import StopTexts, read_replies
from llm.types import Generation, SpatialPrompt


@dataclass(frozen=True)
class Timed:
    """Replies, and the seconds by the clock and of the processor that they took."""

    replies: list[Generation]
    clock: float
    processor: float


def phantom_prompts(images: int, questions: int) -> Iterator[list[SpatialPrompt]]:
    """For each image its prompts, at most `questions`: all with the true regions."""
    modalities = [*MODALITIES]
    for seed in range(images):
        phantom = make_phantom(modalities[seed % len(modalities)], seed)
        asked = dict.fromkeys(qa.question for qa in phantom.qa)
        yield [SpatialPrompt(q, phantom.image, phantom.regions) for q in islice(asked, questions)]


def real_prompts(data_dir: Path, split: Split, images: int, questions: int) -> Iterator[list[SpatialPrompt]]:
    """The same of real images, those with most questions first, with the packaged grounder's regions."""
    from grounding import Grounder
    from medglip_agent.evidence import ImageEvidence

    grounder = Grounder.from_pretrained("nano")
    examples = sorted(read_vqa_rad(data_dir / "vqa" / "vqa_rad", split), key=lambda e: str(e.image_path))
    by_image = [(path, [*group]) for path, group in groupby(examples, key=lambda e: e.image_path)]
    for path, group in sorted(by_image, key=lambda item: -len(item[1]))[:images]:
        image = MedicalImage.open(path)
        regions = ImageEvidence(grounder, image).gather("").regions
        yield [SpatialPrompt(example.question, image, regions) for example in group[:questions]]


def plain(model: VisionLanguageModel, prompts: Sequence[SpatialPrompt], new_tokens: int) -> list[Generation]:
    """One call of transformers' ``generate`` a prompt, with its pixels; nothing is kept between them."""
    replies: list[Generation] = []
    with torch.inference_mode():
        for prompt in prompts:
            inputs = model.on_device(model.inputs.prompts([prompt]))
            output = model.model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
                pad_token_id=model.processor.tokenizer.pad_token_id,
            )
            stopper = StopTexts((), model.processor.tokenizer, inputs["input_ids"].shape[1])
            ends = model.model.generation_config.eos_token_id
            replies += read_replies(output, model.processor.tokenizer, ends, stopper)
    return replies


def timed(answer: Callable[[], list[Generation]]) -> Timed:
    """Run it once, with the clock."""
    clock, processor = time.perf_counter(), time.process_time()
    replies = answer()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Timed(replies, time.perf_counter() - clock, time.process_time() - processor)


def compare(prompts: Sequence[SpatialPrompt], slow: Timed, fast: Timed) -> dict[str, Any]:
    """Ratios, the share of identical answers, and every difference with its margins."""
    pairs = [*zip(prompts, slow.replies, fast.replies, strict=True)]
    return {
        "questions": len(pairs),
        "images": len({prompt.image.source_id for prompt in prompts}),
        "plain_seconds": slow.clock,
        "seconds": fast.clock,
        "ratio": slow.clock / fast.clock,
        "plain_processor_seconds": slow.processor,
        "processor_seconds": fast.processor,
        "processor_ratio": slow.processor / fast.processor,
        "identical": sum(a.text == b.text for _, a, b in pairs) / len(pairs),
        "differences": [
            {"question": p.text, "plain": a.text, "ours": b.text, "margins": [a.margin, b.margin]}
            for p, a, b in pairs
            if a.text != b.text
        ],
    }


def measure(
    models: tuple[VisionLanguageModel, VisionLanguageModel],
    first: list[SpatialPrompt],
    many: list[SpatialPrompt],
    new_tokens: int,
) -> dict[str, Any]:
    """Both measurements.

    Args:
        models: Of the plain side, and ours.
        first: Prompts on one image, asked at once; none = not measured.
        many: Prompts on many images, asked in batches; none = not measured.
        new_tokens: The longest reply.
    """
    slow_model, model = models
    plain(slow_model, (first or many)[:1], 2)  # warms up
    model.generate((first or many)[:1], max_new_tokens=2)
    model.prefixes.clear()
    result = {}
    for name, prompts in (("one_image", first), ("batches", many)):
        if not prompts:
            continue
        slow = timed(partial(plain, slow_model, prompts, new_tokens))
        fast = timed(partial(model.generate, prompts, max_new_tokens=new_tokens))
        result[name] = compare(prompts, slow, fast)
    return result


def line(name: str, figures: dict[str, Any]) -> str:
    """One measurement in one line."""
    return (
        f"{name}: {figures['questions']} questions on {figures['images']} image(s),"
        f" {figures['ratio']:.2f} x by the clock, {figures['processor_ratio']:.2f} x by the processor's time,"
        f" {100 * figures['identical']:.1f} % identical"
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="real images (vqa/vqa_rad); default: phantoms")
    parser.add_argument(
        "--split", choices=get_args(Split), default="disjoint-val", help="of VQA-RAD; only speed is measured"
    )
    parser.add_argument("--model", default="nano", help="nano, a folder or a hub id")
    parser.add_argument(
        "--on-one-image", type=int, default=10, help="questions on the first image; 0 leaves them out"
    )
    parser.add_argument("--questions", type=int, default=64, help="questions in batches; 0 leaves them out")
    parser.add_argument("--an-image", type=int, default=4, help="most questions on each of those images")
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--dtype", default="auto", help="of our side: auto, mixed, bfloat16, float32")
    parser.add_argument("--plain-dtype", default="float32", help="of the plain side")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="torch's threads; default: torch's own choice")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    images = 1 + options.questions  # as many as it takes: some have few questions
    sizes = max(options.on_one_image, options.an_image)
    source = (
        real_prompts(options.data_dir, options.split, images, sizes)
        if options.data_dir
        else phantom_prompts(images, sizes)
    )
    first = next(source)[: options.on_one_image] if options.on_one_image else []
    many: list[SpatialPrompt] = []
    while len(many) < options.questions and (group := next(source, None)):
        many += group[: options.an_image]
    load = partial(ModelConfig, model=options.model, device=options.device)
    configs = load(dtype=options.plain_dtype), load(dtype=options.dtype)
    models = VisionLanguageModel.from_config(configs[0]), VisionLanguageModel.from_config(configs[1])
    result = measure(models, first, many[: options.questions], options.max_new_tokens)
    for name, figures in result.items():
        print(line(name, figures))
        for difference in figures["differences"]:
            print(f"  differs: {difference}")
    result |= {
        "model": options.model,
        "dtype": options.dtype,
        "plain_dtype": options.plain_dtype,
        "threads": torch.get_num_threads(),
        "device": str(models[0].model.device),
    }
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
