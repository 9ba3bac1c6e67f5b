"""The figures that people read are those that the commands wrote to docs/results, to the digits shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
README = ROOT / "README.md"
GROUNDER_CARD = ROOT / "grounding" / "checkpoints" / "nano" / "README.md"
VLM_CARD = ROOT / "llm" / "checkpoints" / "nano" / "README.md"
BASELINES = {
    "nearest training question": "nearest-question",
    "nearest training question, TF-IDF": "nearest-question-tfidf",
    "nearest training question and file name": "nearest-question-and-file",
    "question-type prior": "question-type-prior",
}


def rows(page: Path) -> Iterator[list[str]]:
    """Yield the cells of every table row of a page."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def read(name: str) -> dict:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [README, GROUNDER_CARD], ids=["readme", "card"])
def test_grounding_figures(page):
    results = read("grounding.json")
    shown = {cells[0]: cells[1:3] for cells in rows(page) if cells[0] in results and len(cells) == 3}
    expected = {name: [f"{r['ap']:.3f}", f"{r['ap50']:.3f}"] for name, r in results.items()}
    assert shown == expected


def test_grounding_figures_in_the_text():
    """The sentences below the table of the README."""
    (means,) = read("grounding_summary.json")["mean over sets"].values()
    text = " ".join(README.read_text(encoding="utf-8").split())
    ap50 = f"{means['ap50']['mean']:.3f} [{means['ap50']['low']:.3f}, {means['ap50']['high']:.3f}]"
    assert f"The mean AP50 is {ap50}" in text
    said = re.search(r"Of labels that a set annotates.*?another modality\. Fractures", text)
    assert said
    names = (
        "false_positives_annotated",
        "phrase_recall",
        "false_positives_foreign",
        "auroc_annotated",
        "auroc_foreign",
    )
    assert re.findall(r"\d\.\d{3}", said[0]) == [f"{means[name]['mean']:.3f}" for name in names]


def cell(summary: dict, interval: bool) -> str:
    """Write a mean as the tables do, with or without its interval."""
    text = f"{summary['mean']:.3f}"
    return f"{text} [{summary['low']:.3f}, {summary['high']:.3f}]" if interval else text


def expected_cells(conditions: dict, name: str, intervals: tuple[bool, bool, bool]) -> list[str]:
    scores = conditions[BASELINES.get(name, name.removeprefix("boxes "))]["exact"]
    parts = ("answer type=OPEN", "answer type=CLOSED", "overall")
    return [cell(scores[part], interval) for part, interval in zip(parts, intervals, strict=True)]


def test_vqa_figures_of_the_readme():
    checked = 0
    for cells in rows(README):
        if cells[0] in ("official-test", "disjoint-test") and "not yet measured" not in cells:
            family = cells[0].removesuffix("-test")
            conditions = read(f"vqa_rad_{family}.json")["conditions"]
            assert cells[2:] == expected_cells(conditions, cells[1], (True, True, True)), cells[:2]
            checked += 1
    assert checked >= 6


def test_vqa_figures_of_the_card():
    conditions = read("vqa_rad_disjoint.json")["conditions"]
    known = {*BASELINES, "predicted", "none", "shuffled"}
    shown = {cells[0]: cells[1:] for cells in rows(VLM_CARD) if cells[0] in known and len(cells) == 4}
    assert set(shown) == known
    for name, cells in shown.items():
        assert cells == expected_cells(conditions, name, (False, False, True)), name


@pytest.mark.parametrize("page", [README, VLM_CARD], ids=["readme", "card"])
def test_figures_of_questions_that_follow_from_boxes(page):
    conditions = read("box_questions.json")["conditions"]
    shown = {cells[0]: cells[1:] for cells in rows(page) if cells[0] in conditions and len(cells) == 7}
    assert {"oracle", "predicted", "none", "shuffled"} == set(shown)
    for name, cells in shown.items():
        scores = conditions[name]["exact"]
        kinds = [f"kind={kind}" for kind in ("presence", "count", "side", "where", "larger")]
        assert cells == [cell(scores["overall"], True), *(cell(scores[kind], False) for kind in kinds)], name


def test_figures_of_nih_reports_on_the_card():
    conditions = read("nih_reports.json")["conditions"]
    shown = {cells[0]: cells[1:] for cells in rows(VLM_CARD) if cells[0] in conditions and len(cells) == 3}
    expected = {
        name: [cell(kinds[k], True) for k in ("micro", "macro")] for name, kinds in conditions.items()
    }
    assert shown == expected


def test_differences_quoted_in_the_readme():
    """ "difference 0.010 [-0.039, 0.059]" is a paired difference that some comparison gave."""
    text = " ".join(README.read_text(encoding="utf-8").split())
    quoted = re.findall(r"(-?\d\.\d{3}) \[(-?\d\.\d{3}), (-?\d\.\d{3})\]\)", text)
    found = set()
    for path in RESULTS.glob("vqa_rad_*.json"):
        for comparison in json.loads(path.read_text(encoding="utf-8")).get("comparisons", {}).values():
            for group in comparison.values():
                difference = group["difference"]
                found.add(tuple(f"{difference[key]:.3f}" for key in ("mean", "low", "high")))
    assert quoted
    assert not set(quoted) - found


def test_latency_of_the_readme():
    seconds = read("latency.json")["seconds"]
    parts = [f"{seconds[part]['median']:.2f} s" for part in ("image", "grounding", "generation", "total")]
    start, memory = read("latency.json")["second_start"], read("latency.json")["peak_memory_mib"]
    parts += [f"{start['first_answer']:.1f} s to the first answer", f"{memory / 1024:.1f} GB"]
    assert parts in [*rows(README)]


def test_speed_of_a_training_step():
    found = read("training_speed.json")
    rates = [f"{found[side]['images_per_second']:.1f}" for side in ("ours", "naive")]
    text = " ".join((ROOT / "docs" / "training.md").read_text(encoding="utf-8").split())
    said = re.search(r"takes (\d\.\d) images a second .* float32 (\d\.\d): (\d\.\d) times as fast", text)
    assert said
    assert [*said.groups()] == [*rates, f"{found['ratio']:.1f}"]


def test_speed_of_many_questions():
    page = [*rows(ROOT / "docs" / "models.md")]
    for name, file in (("auto (mixed)", ""), ("bfloat16", "_bfloat16"), ("float32", "_float32")):
        found = read(f"generation_speed{file}.json")["batches"]
        assert [name, f"{found['ratio']:.1f}", f"{100 * found['identical']:.1f} %"] in page


def test_table_of_the_data_engine():
    from benchmarks.bench_data import table

    assert table(read("data.json")) in (ROOT / "docs" / "data.md").read_text(encoding="utf-8")


def test_what_a_reader_of_the_boxes_scores():
    found = read("box_reader.json")
    page = (RESULTS / "box_questions.md").read_text(encoding="utf-8").replace("\n", " ")
    assert ", ".join(f"{kind} {share:.3f}" for kind, share in found.items()) in page
    text = " ".join(README.read_text(encoding="utf-8").split())
    assert f"a reader of a few rules answers {found['all']:.3f}" in text


def test_counts_read_off_boxes_and_by_the_model():
    reader = read("box_reader.json")["count"]
    model = read("box_questions.json")["conditions"]["predicted"]["exact"]["kind=count"]["mean"]
    text = " ".join((ROOT / "docs" / "agent.md").read_text(encoding="utf-8").split())
    assert f"a reader of the boxes is right in {reader:.2f}, the language model in {model:.2f}" in text


def test_what_the_vision_tower_tells():
    found = read("probe_tower.json")
    card = " ".join(VLM_CARD.read_text(encoding="utf-8").split())
    assert f"mean AUROC {found['grounder']:.3f} and {found['ImageNet']:.3f}" in card
