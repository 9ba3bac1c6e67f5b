"""Batches, shards, resume, failures, cache and settings of a run, on the toy VQA-RAD with fake models."""

import json
import random
from pathlib import Path

import pytest

from benchmarks import run_vqa
from benchmarks.models import model_config
from benchmarks.prediction_cache import PredictionCache
from benchmarks.predictions import Predictions, check_identity, read_rows
from benchmarks.run_config import RunConfig
from benchmarks.runner import EXIT_FAILED_SAMPLES, GaveUpError, batches, exit_code, told
from benchmarks.shards import Shard, this_shard
from benchmarks.tasks.base import Sample
from grounding.types import Regions

RESULTS = ("predictions.jsonl", "metrics.json", "results.md", "identity.json")


def same_files(a, b, names=RESULTS):
    return [name for name in names if (a / name).read_bytes() != (b / name).read_bytes()] == []


def samples_of(data):
    return run_vqa.VqaRad(data, "official-test").samples()


def test_batches_hold_similar_lengths_and_depend_on_the_whole_set(data):
    samples = samples_of(data)
    cut = batches(samples, 5)
    assert [len(b) for b in cut] == [5, 5, 2]
    lengths = [len(s.prompt) for b in cut for s in b]
    assert lengths == sorted(lengths)
    assert batches(samples[::-1], 5) == cut


def test_shards_divide_whole_batches():
    cut = [["a", "b"], ["c", "d"], ["e"]]
    parts = [Shard(k, 2).of(cut) for k in range(2)]
    assert parts == [[["a", "b"], ["e"]], [["c", "d"]]]


def test_torchrun_outranks_nothing(monkeypatch):
    assert this_shard((0, 1)) == Shard(0, 1, joined=True)
    assert this_shard((1, 3)) == Shard(1, 3, joined=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert this_shard((0, 1)) == Shard(1, 2, joined=True)
    with pytest.raises(ValueError, match="leave --shard 1/3 out"):
        this_shard((1, 3))


def test_a_run_killed_before_any_batch_continues_to_the_same_files(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full
):
    folder = checkpoint()
    whole = use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "whole"))
    assert len(whole.seen) == 9
    for dies_at in range(9):
        out = tmp_path / f"killed-{dies_at}"
        killed = use_model(fake_model(dies_at))
        with pytest.raises(KeyboardInterrupt):
            run_vqa.main(full(data, regions, folder, out))
        part = out / "parts" / "0-of-1.jsonl"
        if part.exists():
            part.write_bytes(part.read_bytes()[:-30])  # and the last line was cut short
        resumed = use_model(fake_model())
        assert run_vqa.main(full(data, regions, folder, out)) == 0
        assert same_files(out, tmp_path / "whole")
        assert not list((out / "parts").iterdir())
        assert len(resumed.seen) == len(whole.seen) - len(killed.seen) + bool(killed.seen)
        assert resumed.seen == whole.seen[-len(resumed.seen) :]  # the same batches, the broken one in full


def test_a_file_cut_at_random_bytes_continues_to_the_same_files(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full
):
    folder = checkpoint()
    use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "whole"))
    lines = (tmp_path / "whole" / "predictions.jsonl").read_bytes()
    rng = random.Random(0)
    for k in range(10):
        cut = tmp_path / f"cut-{k}"
        (cut / "parts").mkdir(parents=True)
        (cut / "parts" / "0-of-1.jsonl").write_bytes(lines[: rng.randrange(len(lines))])
        run_vqa.main(full(data, regions, folder, cut))
        assert same_files(cut, tmp_path / "whole")


def test_shards_by_hand_give_the_files_of_one_process(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full, capsys
):
    folder = checkpoint()
    model = use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "one"))
    n = len(model.seen)
    capsys.readouterr()
    for k in (2, 0, 1):
        assert run_vqa.main(full(data, regions, folder, tmp_path / "three", "--shard", f"{k}/3")) == 0
        assert f"shard {k}/3 is done" in capsys.readouterr().out
        assert not (tmp_path / "three" / "predictions.jsonl").exists()
    assert len(model.seen) == 2 * n
    use_model(None)  # nothing is left to answer
    run_vqa.main(full(data, regions, folder, tmp_path / "three"))
    assert same_files(tmp_path / "three", tmp_path / "one")


def test_a_part_of_another_process_is_read_and_never_cut(tmp_path):
    (tmp_path / "parts").mkdir()
    theirs = tmp_path / "parts" / "1-of-2.jsonl"
    text = json.dumps({"qid": "1", "boxes": "none", "error": None}) + '\n{"qid": "2'
    theirs.write_text(text)
    assert list(Predictions(tmp_path, "0-of-2").rows) == [("1", "none")]
    assert theirs.read_text() == text
    theirs.write_text("{broken}\n")
    with pytest.raises(ValueError, match=r"1-of-2.jsonl:1 is no JSON"):
        read_rows(theirs)


def test_failed_samples_are_kept_counted_wrong_and_asked_again_on_request(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full, capsys
):
    folder = checkpoint()
    text = "where is it??"
    flags = full(data, regions, folder, tmp_path / "run")
    use_model(fake_model(fails_on=[text]))
    assert run_vqa.main(flags) == EXIT_FAILED_SAMPLES
    assert "--retry-failed asks them again" in capsys.readouterr().err
    rows = Predictions(tmp_path / "run").rows
    failed = [row for row in rows.values() if row["error"]]
    assert {(row["qid"], row["boxes"]) for row in failed} == {
        ("202", "none"),
        ("202", "predicted"),
        ("202", "shuffled"),
    }
    assert failed[0]["prediction"] == "" and failed[0]["scores"]["exact"] == 0
    assert failed[0]["error"] == f"RuntimeError: cannot answer {text}"
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["failed"]["predicted"] == 1 and metrics["failed"]["nearest-question"] == 0
    assert metrics["conditions"]["predicted"]["exact"]["overall"]["mean"] == pytest.approx(11 / 12)
    assert metrics["conditions"]["predicted"]["exact"]["overall"]["n"] == 12
    assert "counted as wrong: 1 of none" in (tmp_path / "run" / "results.md").read_text()
    use_model(None)
    assert run_vqa.main(flags) == EXIT_FAILED_SAMPLES  # kept
    use_model(fake_model())
    assert run_vqa.main([*flags, "--retry-failed"]) == 0
    run_vqa.main(full(data, regions, folder, tmp_path / "whole"))
    assert same_files(tmp_path / "run", tmp_path / "whole")


def test_a_broken_image_fails_its_questions_only(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full
):
    (data / "vqa" / "vqa_rad" / "images" / "3.png").write_bytes(b"no picture")
    use_model(fake_model())
    assert run_vqa.main(full(data, regions, checkpoint(), tmp_path / "run")) == EXIT_FAILED_SAMPLES
    rows = Predictions(tmp_path / "run").rows
    assert {row["qid"] for row in rows.values() if row["error"]} == {"103", "203"}


def test_a_model_that_fails_at_everything_ends_the_run(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full
):
    use_model(fake_model(fails_on=[s.prompt for s in samples_of(data)]))
    with pytest.raises(GaveUpError, match="16 samples failed in a row"):
        run_vqa.main(full(data, regions, checkpoint(), tmp_path / "run"))
    use_model(fake_model())
    assert run_vqa.main(full(data, regions, tmp_path / "model", tmp_path / "run")) == EXIT_FAILED_SAMPLES


def test_errors_do_not_tell_the_folders_of_an_image():
    sample = Sample("s5", Path("/data/p10/p10000032/s5/ab12.jpg"), "q", "a", "c", {})
    error = OSError(f"cannot identify image file {str(sample.image_path)!r}")
    assert told(error, sample) == "OSError: cannot identify image file 's5'"
    assert told(OSError("p10000032 is odd"), sample) == "OSError"


def test_exit_codes(capsys):
    def raising(error):
        def main():
            raise error

        return main

    assert exit_code(lambda: 0) == 0
    assert exit_code(raising(ValueError("wrong"))) == 2
    assert exit_code(raising(FileNotFoundError("absent"))) == 2
    assert exit_code(raising(GaveUpError("nothing works"))) == 4
    assert exit_code(raising(KeyboardInterrupt())) == 130
    assert "error: wrong" in capsys.readouterr().err
    with pytest.raises(TypeError):  # a fault of ours keeps its traceback
        exit_code(raising(TypeError("ours")))


def test_answers_are_shared_between_runs_by_all_that_decides_them(
    data, regions, tmp_path, use_model, fake_model, checkpoint, full
):
    folder, cache = checkpoint(), ["--cache", str(tmp_path / "cache")]
    use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "a", *cache))
    second = use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "b", *cache))
    assert second.seen == []
    assert same_files(tmp_path / "a", tmp_path / "b")
    third = use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "c", *cache, "--instruction", "Answer in a word."))
    assert sum(map(len, third.seen)) == 36
    assert all(text.endswith(" Answer in a word.") for batch in third.seen for text in batch)
    (folder / "w.safetensors").write_bytes(b"other weights")
    fourth = use_model(fake_model())
    run_vqa.main(full(data, regions, folder, tmp_path / "d", *cache))
    assert sum(map(len, fourth.seen)) == 36


def test_equal_questions_have_one_answer_in_the_cache_and_are_all_asked_without(
    data, tmp_path, use_model, fake_model, checkpoint, arguments
):
    root = data / "vqa" / "vqa_rad"
    test = json.loads((root / "testset.json").read_text())
    (root / "testset.json").write_text(json.dumps([*test, {**test[3], "qid": 300}]))
    flags = ["--boxes", "none", "--model", checkpoint()]
    plain = use_model(fake_model())
    run_vqa.main(arguments(data, tmp_path / "a", *flags))
    assert sum(map(len, plain.seen)) == 13
    cached = use_model(fake_model())
    run_vqa.main(arguments(data, tmp_path / "b", *flags, "--cache", tmp_path / "cache"))
    assert sum(map(len, cached.seen)) == 12
    use_model(fake_model())
    run_vqa.main(arguments(data, tmp_path / "c", *flags, "--cache", tmp_path / "cache"))
    assert same_files(tmp_path / "b", tmp_path / "c")


def test_the_key_of_an_answer_holds_everything(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    empty = Regions.empty((3, 4), ("mass",))
    keys = [
        PredictionCache(None, {"model_sha256": weights}).key(path, prompt, regions)
        for weights in "xy"
        for path in (a, b)
        for prompt in ("p", "q")
        for regions in (None, empty)
    ]
    assert len(set(keys)) == 16
    b.rename(tmp_path / "elsewhere.png")  # the bytes count, not the place
    cache = PredictionCache(tmp_path / "cache", {"model_sha256": "x"})
    assert cache.key(tmp_path / "elsewhere.png", "p", None) == keys[4]
    assert cache.get(keys[0]) is None
    cache.put(keys[0], ("ja ü", 0.1 + 0.2))
    assert PredictionCache(tmp_path / "cache", {}).get(keys[0]) == ("ja ü", 0.1 + 0.2)


def test_limit_and_offset_cut_a_window(data, tmp_path, arguments):
    run_vqa.main(arguments(data, tmp_path / "run", "--model", "baselines", "--offset", "4", "--limit", "3"))
    rows = read_rows(tmp_path / "run" / "predictions.jsonl")
    assert [row["qid"] for row in rows if row["boxes"] == "most-frequent"] == ["104", "105", "200"]
    with pytest.raises(ValueError, match="limit: 3 there, None now"):
        run_vqa.main(arguments(data, tmp_path / "run", "--model", "baselines", "--offset", "4"))


def test_a_dry_run_counts_and_runs_nothing(data, regions, tmp_path, use_model, checkpoint, full, capsys):
    use_model(None)
    settings = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    folder = checkpoint("real", text_config=settings)
    header = json.dumps({"w": {"dtype": "F32", "shape": [1000, 2000], "data_offsets": [0, 8]}}).encode()
    (folder / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    assert run_vqa.main(full(data, regions, folder, tmp_path / "run", "--dry-run")) == 0
    told_ = capsys.readouterr().out
    assert "vqa_rad official-test: 12 samples of 6 images in 6 clusters (image)" in told_
    assert "answer type: CLOSED 6, OPEN 6" in told_
    assert "boxes=shuffled: 3 batches of 5, 0 samples done" in told_
    assert "2 M weights" in told_
    # 5 prompts x (48 // 4 + 600 + 16) tokens x 2 (keys, values) x 2 layers x 2 heads x 8 numbers x 2 bytes
    assert "5 x " in told_ and "memory: about 0.0 GB" in told_
    assert not (tmp_path / "run").exists()


def test_settings_come_from_a_file_and_flags_outrank_it(data, tmp_path, arguments, capsys):
    path = tmp_path / "run.yaml"
    path.write_text("model: baselines\nlimit: 5\noffset: 2\nboxes: [none, predicted]\n")
    run_vqa.main(arguments(data, tmp_path / "run", "--config", str(path), "--limit", "2"))
    identity = json.loads((tmp_path / "run" / "identity.json").read_text())
    assert (identity["limit"], identity["offset"], identity["model"]) == (2, 2, "baselines")
    for text, expected in (
        ("limt: 5", "did you mean 'limit'"),
        ("limit: five", "limit must be a whole number, got 'five'"),
        ("boxes: [some]", "boxes must be of none, predicted"),
        ("- 1", "must hold fields"),
    ):
        path.write_text(text)
        with pytest.raises(SystemExit):
            run_vqa.main(arguments(data, tmp_path / "run", "--config", str(path)))
        assert expected in capsys.readouterr().err


def test_yaml_lists_and_texts_become_what_belongs():
    config = RunConfig(data_dir="d", out="o", boxes=["none"], cache="c")
    assert (config.data_dir, config.boxes, config.cache) == (Path("d"), ("none",), Path("c"))


def test_identity_names_what_differs(tmp_path):
    check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "a"})
    check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "a"})
    with pytest.raises(ValueError, match="model: 'a' there, 'b' now"):
        check_identity(tmp_path / "run" / "identity.json", {"seed": 0, "model": "b"})


def test_no_reply_depends_on_earlier_batches(tmp_path):
    written = tmp_path / "model.yaml"
    written.write_text("model: nano\npictures: 9\n")
    for model in ("nano", str(written)):
        assert model_config(RunConfig(data_dir=tmp_path, out=tmp_path / "out", model=model)).pictures == 0
