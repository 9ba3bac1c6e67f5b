"""The page of a run of questions: what it says, shows, escapes and refuses."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from benchmarks import page, run_vqa
from benchmarks.gallery import Mark, keys, pick, picture
from benchmarks.markup import Html, document, facts, section, table, tag
from benchmarks.plots import Dot, curve_plot, interval_plot
from benchmarks.run_folder import check_same_data, read_run
from grounding.types import MedicalImage


class Tags(HTMLParser):
    """Collects attributes, and fails where a tag is not closed."""

    VOID = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name, attrs):
        self.seen.append(name)
        self.attributes += attrs
        if name not in self.VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name


def check_self_contained(text):
    tags = Tags(text)
    assert not {"script", "link", "iframe", "object", "base"} & {*tags.seen}
    links = [value for name, value in tags.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in links)
    assert not [name for name, _ in tags.attributes if name.startswith("on")]
    assert "http" not in re.sub(r"data:[^\"]*", "", text).replace("http-equiv", "")
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    return tags


@pytest.fixture
def run(data, regions, tmp_path, use_model, fake_model, checkpoint, full):
    path = data / "vqa" / "vqa_rad" / "testset.json"
    test = json.loads(path.read_text())
    test[0]["question"] = "is <script>alert('x')</script> & a mass there?"
    path.write_text(json.dumps(test))
    use_model(fake_model())
    run_vqa.main(full(data, regions, checkpoint("model", trained_on=["official-train"]), tmp_path / "run"))
    return tmp_path / "run"


def test_page_of_questions(run, data, regions, capsys):
    assert page.main([str(run), "--data-dir", str(data), "--regions", str(regions), "--count", "5"]) == 0
    assert capsys.readouterr().out.strip() == str(run / "page.html")
    text = (run / "page.html").read_text(encoding="utf-8")
    tags = check_self_contained(text)
    assert page.IMAGES in text and "Research use only" in text
    assert "12 samples of 6 images" in text and "trained on: official-train" in text
    assert "1.000 [1.000, 1.000]" in text and "predicted - shuffled" in text and "(Holm)" in text
    assert "Right: 5 of 12" in text and "Wrong:" not in text  # predicted boxes answer everything
    assert tags.seen.count("image") == tags.seen.count("article") == 5
    assert tags.seen.count("rect") == 5  # a box each
    assert "mass 0.90" in text
    assert json.loads((run / "manifest.json").read_text())["settings"]["model_sha256"] in text


def test_what_the_data_says_is_escaped(run, data, regions):
    text = page.build_page(read_run(run), data_dir=data, regions=regions, count=12)
    check_self_contained(text)
    assert "is &lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; a mass there?" in text


def test_without_data_there_are_no_images_and_no_warning(run):
    text = page.build_page(read_run(run))
    assert "image" not in check_self_contained(text).seen
    assert page.IMAGES not in text and "Images are shown with --data-dir" in text


def test_wrong_answers_come_with_the_most_sure_ones_first(run):
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    for row in rows:
        if row["boxes"] == "predicted" and row["qid"] in ("100", "101"):
            row["scores"]["exact"] = 0.0
            row["confidence"] = 0.9 if row["qid"] == "101" else 0.3
    (run / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = page.build_page(read_run(run))
    assert "Right: 10 of 10" in text and "Wrong: 2 of 2" in text
    sure = text[text.index("Wrong and most sure") :]
    assert sure.index("<dd>101</dd>") < sure.index("<dd>100</dd>")


def test_other_data_is_refused(run, data):
    (data / "vqa" / "vqa_rad" / "testset.json").write_text("[]")
    with pytest.raises(ValueError, match="does not hold the data"):
        page.build_page(read_run(run), data_dir=data)


def test_a_folder_without_a_run_is_told(tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_run(tmp_path)


def test_runs_on_other_data_are_told_apart(run):
    one = read_run(run)
    check_same_data(one, read_run(run))
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"] |= {"data_sha256": "0" * 64, "limit": 5}
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"sha256 of the data .*'0{64}'; window .*'limit': 5"):
        check_same_data(one, read_run(run))


def test_tags_escape_all_but_markup():
    assert tag("p", "a < b & c", Html("<b>d</b>"), class_="x", title='"', id=None) == (
        '<p class="x" title="&quot;">a &lt; b &amp; c<b>d</b></p>'
    )
    assert "<td>&lt;i&gt;</td>" in table(["a", "b"], [["r", "<i>"]])
    assert "<dd>&lt;i&gt;</dd>" in facts([("<", "<i>")])
    assert section("empty", "", Html()) == ""
    assert "<title>&lt;t&gt;</title>" in document("<t>", "kind")


def test_interval_plot_places_means_and_ends():
    # 780 wide, names 250, figures 70: 0 lies at x = 250, 1 at 710, .5 at 480.
    svg = interval_plot([Dot("half", 0.5, 0.0, 1.0), Dot("<all>", 1.0, 1.0, 1.0, 1)], "t")
    assert 'x1="250.0" x2="710.0" y1="20" y2="20" class="bar s0"' in svg
    assert '<circle cx="480.0" cy="20"' in svg and '<circle cx="710.0" cy="44"' in svg
    assert "&lt;all&gt;" in svg and "0.500" in svg
    # Differences of at most .08 are drawn on [-.08, .08], with a line at 0.
    svg = interval_plot([Dot("d", 0.04, -0.02, 0.08)], "t", signed=True)
    assert '<circle cx="595.0"' in svg and 'x1="480.0" x2="480.0" y1="4" y2="32" class="zero"' in svg
    assert ">5</text>" in interval_plot([Dot("cider", 3.4, 0, 4.9)], "t")  # the axis ends at 5
    assert interval_plot([], "t") == "" == curve_plot({}, "t", "x", "y")


def test_long_names_keep_both_ends():
    svg = interval_plot([Dot("a-long-folder/checkpoint, boxes predicted", 0, 0, 0)], "t")
    assert ">a-long-folder/…t, boxes predicted</text>" in svg


def test_curve_plot_spaces_named_places_evenly():
    svg = curve_plot({"d": [(0.125, 0.0), (8.0, 1.0), (1.0, 0.5)]}, "t", "x", "y")
    assert 'points="66.0,252.0 592.0,12.0 329.0,132.0"' in svg


def test_picture_draws_boxes_in_pixels_of_the_original():
    image = MedicalImage(np.zeros((600, 1200, 3), dtype=np.uint8))
    marks = [Mark([10, 20, 110, 70.25], "a", "#fff"), Mark([0, 0, 5, 5], "b", "#fff", dashed=True)]
    svg = picture(image, marks)
    assert 'viewBox="0 0 1200 600"' in svg
    assert 'x="10.0" y="20.0" width="100.0" height="50.2" stroke="#fff" class="box"' in svg
    assert svg.count("box dashed") == 1
    told = keys([*marks, Mark([0, 0, 1, 1], "c", "#fff", "")])
    assert "a, c" in told and told.count("swatch") == 2
    assert keys([]) == ""


def test_pick_takes_every_image_once_before_one_comes_again():
    rows = [{"qid": str(k), "cluster": "ab"[k >= 6]} for k in range(8)]
    chosen = pick(rows, 4)
    assert sorted(row["cluster"] for row in chosen) == ["a", "a", "b", "b"]
    assert {row["cluster"] for row in chosen[:2]} == {"a", "b"}
    assert chosen == pick(rows[::-1], 4)
    assert pick(rows, 20) == pick(rows, 8)
