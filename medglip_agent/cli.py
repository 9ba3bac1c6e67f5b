"""The command line: `medglip ask | ground | report | serve | mcp | audit | data | fetch | doctor`.

Owns arguments, messages and exit codes (0 done, 2 a mistake in the call or the input). Heavy imports happen
only once a command runs, so that --help is instant.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import NOTICE
from .data_cli import add_data_commands
from .quiet import quiet_libraries
from .serve_cli import add_serve_commands

if TYPE_CHECKING:
    from grounding.types import MedicalImage, Regions
    from llm.types import Answer, Report

    from .agent import MedGLIPAgent
    from .chat_model import ChatModelAgent
    from .exports import Result


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    if not args.debug:
        quiet_libraries()
    command: Callable[[argparse.Namespace], int] = args.run
    try:
        return command(args)
    except KeyboardInterrupt:
        print("medglip: interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError) as error:
        if args.debug:
            raise
        print(f"medglip: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medglip",
        description="Ask a medical image a question; the answer points at its evidence.",
        epilog=NOTICE,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ask = commands.add_parser("ask", help="answer questions about an image, one after another", epilog=NOTICE)
    ask.add_argument("image", type=Path)
    ask.add_argument(
        "questions",
        nargs="+",
        metavar="QUESTION",
        help='a further one may leave unsaid what was asked before ("and on the left?"); --out and --export '
        "take the last answer, --json prints a list",
    )
    ask.add_argument(
        "--prior", type=Path, metavar="FILE", help="an earlier image of the same, to compare with"
    )
    ask.add_argument("--prior-frame", type=int, default=0, help="its frame, slice or page (default: 0)")
    ask.add_argument("--box", metavar="X1,Y1,X2,Y2", help="a marked part to ask about, pixels of IMAGE")
    ask.add_argument("--segmenter", metavar="FOLDER", help="a SAM or MedSAM model, for outlines")
    ask.add_argument(
        "--chat-model", type=Path, metavar="YAML", help="a chat model that leads the tools (docs/agent.md)"
    )
    _add_model_options(ask)
    ask.set_defaults(run=_ask)

    ground = commands.add_parser("ground", help="find structures in an image", epilog=NOTICE)
    ground.add_argument("image", type=Path)
    ground.add_argument("phrases", nargs="+", metavar="PHRASE")
    _add_model_options(ground, vlm=False)
    ground.set_defaults(run=_ground)

    report = commands.add_parser("report", help="describe an image", epilog=NOTICE)
    report.add_argument("image", type=Path)
    _add_model_options(report)
    report.set_defaults(run=_report)

    add_serve_commands(commands)
    add_data_commands(commands.add_parser("data", help="build, look at, check and export data sets"))

    fetch = commands.add_parser("fetch", help="download the base weights into the cache")
    fetch.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    fetch.set_defaults(run=_fetch)

    doctor = commands.add_parser("doctor", help="check this installation and say what to do")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_model_options(parser: argparse.ArgumentParser, *, vlm: bool = True) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--out", type=Path, metavar="PNG", help="write the picture with its regions")
    parser.add_argument(
        "--export",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="write the result; the name's end decides: .png .html .md .json .coco.json .fhir.json .sc.dcm, "
        "or .dcm, an SR that copies patient and study from the DICOM file IMAGE (may be repeated)",
    )
    parser.add_argument("--frame", type=int, default=0, help="frame, slice or page, from 0 (default: 0)")
    parser.add_argument("--window", metavar="CENTER,WIDTH", help="grey window, e.g. 40,400 for CT")
    parser.add_argument("--modality", help="DICOM code such as CR, CT, MR, US, ES, OP (default: the file's)")
    parser.add_argument(
        "--box-threshold", type=float, metavar="SCORE", help="0 to 1 (default: the grounder's)"
    )
    parser.add_argument("--grounder", default="nano", help="name or folder (default: nano)")
    if vlm:
        parser.add_argument("--trace", type=Path, metavar="JSONL", help="append the steps to this file")
        parser.add_argument("--vlm", default="nano", help="name or folder (default: nano)")
    else:
        parser.set_defaults(vlm=None)  # nothing is generated: spare the memory and the seconds
    parser.set_defaults(segmenter=None)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (default: auto)")


def _ask(args: argparse.Namespace) -> int:
    from .request import parse_box

    box = None if args.box is None else parse_box(args.box)
    lead = None if args.chat_model is None else _chat_model(args.chat_model)
    prior = None if args.prior is None else _read(args, args.prior, args.prior_frame)
    image, seeing = _open(args)
    agent: Any = seeing if lead is None else lead(seeing)
    conversation, results = agent.new_conversation(), []
    for question in args.questions:
        answer = agent.ask(image, question, prior=prior, box=box, conversation=conversation)
        results.append(_result(args, agent, image, answer, question))
        _save_trace(args, answer.steps)
        if not args.json:
            _print_answer(answer)
    if args.json:
        _print_json(*results)
    else:
        print(NOTICE)
    _export(args, results[-1])
    return 0


def _print_answer(answer: Answer) -> None:
    from .citations import cited_regions
    from .confidence import confidence_text

    print(answer.text)
    if answer.confidence is not None:
        print(f"confidence {confidence_text(answer.confidence, calibrated=answer.calibrated)}")
    cited = cited_regions(answer.text)
    _print_regions(answer.regions[list(cited)] if cited else None, cited)


def _ground(args: argparse.Namespace) -> int:
    if not any(phrase.strip() for phrase in args.phrases):
        raise ValueError("expected at least one phrase such as 'left lung', got none")
    image, agent = _open(args)
    regions = agent.ground(image, args.phrases)
    result = _result(args, agent, image, regions)
    if args.json:
        _print_json(result)
    else:
        _print_regions(regions, range(len(regions)))
        if regions.missing:
            print(f"not found: {', '.join(regions.missing)}")
        print(NOTICE)
    _export(args, result)
    return 0


def _report(args: argparse.Namespace) -> int:
    from .report import report_text

    image, agent = _open(args)
    report = agent.report(image)
    result = _result(args, agent, image, report)
    if args.json:
        _print_json(result)
    else:
        print(report_text(report))
    _save_trace(args, report.steps)
    _export(args, result)
    return 0


def _fetch(args: argparse.Namespace) -> int:
    from grounding.base_weights import NAMES, fetch

    for name in args.names or NAMES:
        print(f"{name}: {fetch(name)}")
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from .doctor import main as doctor

    return doctor([])


def _open(args: argparse.Namespace) -> tuple[MedicalImage, MedGLIPAgent]:
    """Read the image first: a wrong file should fail before any model loads."""
    threshold = args.box_threshold
    if threshold is not None and not 0.0 <= threshold <= 1.0:
        raise ValueError(f"--box-threshold must lie in [0, 1], got {threshold}")
    if args.out is not None and args.out.suffix.lower() != ".png":
        raise ValueError(f"--out must end in .png, got {args.out.name!r}")
    _check_exports(args)
    image = _read(args, args.image, args.frame)

    from .agent import MedGLIPAgent

    agent = MedGLIPAgent.from_pretrained(
        args.grounder,
        args.vlm,
        args.device,
        segmenter=args.segmenter,
        box_threshold=threshold,
        on_progress=_say,
    )
    return image, agent


def _read(args: argparse.Namespace, path: Path, frame: int) -> MedicalImage:
    """Read an image with the window and the modality of the call."""
    from grounding.types import MedicalImage

    from .request import parse_window

    window = None if args.window is None else parse_window(args.window)
    modality = None if args.modality is None else args.modality.upper()
    return MedicalImage.open(path, frame=frame, window=window, modality=modality)


def _chat_model(path: Path) -> Callable[[MedGLIPAgent], ChatModelAgent]:
    """Make the chat model that a file names, and return what puts it in the lead of an agent."""
    from .chat_config import load_chat_model, read_chat_config
    from .chat_model import ChatModelAgent

    try:
        config = read_chat_config(path)
        model = load_chat_model(config)
        return lambda agent: ChatModelAgent(agent, model, max_steps=config.max_steps)
    except (ImportError, TypeError) as error:  # of what the file names
        raise ValueError(str(error)) from error


def _say(message: str) -> None:
    print(f"medglip: {message}", file=sys.stderr, flush=True)


def _print_json(*results: Result) -> None:
    """One as an object, several as a list."""
    from .exports import result_to_dict

    told = [result_to_dict(result) for result in results]
    print(json.dumps(told[0] if len(told) == 1 else told, indent=2, ensure_ascii=False))


def _print_regions(regions: Regions | None, ids: Sequence[int]) -> None:
    if regions is None:
        return
    for region, number in zip(regions, ids, strict=True):
        box = ", ".join(f"{float(value):.0f}" for value in region.box)
        print(f"[R{number + 1}] {region.phrase}  score {region.score:.2f}  box ({box}) px")


def _save_trace(args: argparse.Namespace, steps: Any) -> None:
    if args.trace is not None:
        from .trace import append_trace

        append_trace(args.trace, steps)


def _result(
    args: argparse.Namespace,
    agent: MedGLIPAgent,
    image: MedicalImage,
    content: Answer | Report | Regions,
    question: str = "",
) -> Result:
    from .exports import Result, SourceFrame, models_of

    return Result(image, content, models_of(agent), question, SourceFrame(args.image, args.frame))


def _check_exports(args: argparse.Namespace) -> None:
    """A wrong name, an absent extra or a picture without DICOM should fail before any model loads."""
    if args.export:
        from .exports import SourceFrame, check_export

        for path in args.export:
            check_export(path, SourceFrame(args.image, args.frame))


def _export(args: argparse.Namespace, result: Result) -> None:
    """Write --out and --export."""
    from .exports import format_of, write_export

    for path in [*([args.out] if args.out is not None else []), *args.export]:
        write_export(path, result)
        copied = " (with patient and study of the image's file)" if format_of(path).identifies else ""
        _say(f"wrote {path}{copied}")


if __name__ == "__main__":
    raise SystemExit(main())
