"""The table over both splits, from one command on the toy VQA-RAD."""

import json

from benchmarks import vqa_rad_table


def test_one_command_makes_the_whole_table(
    data, tmp_path, use_model, fake_model, checkpoint, monkeypatch, capsys
):
    import grounding
    from benchmarks.tasks.vqa_rad import VqaRad

    def write(self, grounder, samples, path):  # stands for the grounder: the box of each question's own image
        lines = []
        for sample in samples:
            k = int(sample.sample_id) % 100
            found = {"boxes": [[1, 2, 3 + k, 9]], "scores": [0.9], "phrase_index": [0], "asked": ["mass"]}
            regions = {**found, "image_size": [30, 40 + k], "masks": None}
            lines.append(json.dumps({"qid": sample.sample_id, "regions": regions}) + "\n")
        path.write_text("".join(lines))

    monkeypatch.setattr(VqaRad, "predict_regions", write)
    monkeypatch.setattr(grounding.Grounder, "from_pretrained", lambda *a, **k: None)
    use_model(fake_model())
    out = tmp_path / "table"
    flags = ["--data-dir", str(data), "--out", str(out)]
    flags += ["--disjoint-model", str(checkpoint("d", trained_on="disjoint-train"))]
    official = str(checkpoint("o", trained_on="official-train"))
    assert vqa_rad_table.main([*flags, "--official-model", official]) == 0
    rows = json.loads((out / "table.json").read_text())
    assert [row["split"] for row in rows] == ["disjoint-test"] * 8 + ["official-test"] * 8
    by_name = {(row["split"], row["condition"]): row for row in rows}
    lead, none = (by_name["official-test", name] for name in ("predicted", "none"))
    assert (lead["lead_minus_this"], none["scores"]["exact"]["overall"]["mean"]) == (None, 0)
    assert none["lead_minus_this"]["exact"]["mcnemar"] == {"only_a": 12, "only_b": 0, "p": 2 / 2**12}
    assert none["lead_minus_this"]["vila-m3"]["difference"]["n"] == 6  # closed only
    assert by_name["disjoint-test", "nearest-question"]["model"] is None
    assert none["holm_p"] >= none["lead_minus_this"]["exact"]["permutation_p"]
    text = (out / "table.md").read_text()
    assert capsys.readouterr().out.endswith(text + "\n")
    assert "| official-test | none | 0.000 [0.000, 0.000] | 0.000 [0.000, 0.000] |" in text
    assert "12 / 0" in text


def test_without_an_official_checkpoint_that_split_has_its_baselines(data, tmp_path):
    out = tmp_path / "table"
    flags = ["--data-dir", str(data), "--out", str(out), "--disjoint-model", "baselines"]
    assert vqa_rad_table.main(flags) == 0
    assert (
        "official-test: 12 questions of 6 images, model none (baselines only)"
        in (out / "table.md").read_text()
    )
