"""The same figures as the reference implementations, where those are installed; each is optional."""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from benchmarks.metrics.medevalkit_text import open_scores
from benchmarks.metrics.meteor import meteor, meteor_exact
from benchmarks.metrics.overlap import bleu, cider, rouge_l

WORDS = (
    "no effusion or pneumothorax the heart is normal in size lungs are clear mild edema at left base".split()
)
DRAW = random.Random(0)
SAID = [DRAW.choices(WORDS, k=DRAW.randint(1, 25)) for _ in range(60)]
TRUE = [[DRAW.choices(WORDS, k=DRAW.randint(1, 25)) for _ in range(1 + k % 2)] for k in range(60)]
TRUE[::3] = [[[*said, "seen"]] for said in SAID[::3]]  # these share long runs
COCO = (
    {k: [" ".join(true) for true in truths] for k, truths in enumerate(TRUE)},
    {k: [" ".join(said)] for k, said in enumerate(SAID)},
)


def needs(module):
    return pytest.importorskip(module, reason=f"parity: {module} is not installed (extra bench)")


def test_bleu_is_pycocoevalcaps():
    needs("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu

    corpus, each = Bleu(4).compute_score(*COCO, verbose=0)
    ours = bleu(SAID, TRUE)
    assert ours.corpus == pytest.approx(corpus, abs=1e-6)
    for n in range(4):
        assert [row[n] for row in ours.each] == pytest.approx(each[n], abs=1e-6)


def test_rouge_l_is_pycocoevalcaps():
    needs("pycocoevalcap")
    from pycocoevalcap.rouge.rouge import Rouge

    ours = [rouge_l(said, true) for said, true in zip(SAID, TRUE, strict=True)]
    assert ours == pytest.approx(list(Rouge().compute_score(*COCO)[1]), abs=1e-6)


def test_cider_is_pycocoevalcaps():
    needs("pycocoevalcap")
    from pycocoevalcap.cider.cider import Cider

    assert cider(SAID, TRUE) == pytest.approx(list(Cider().compute_score(*COCO)[1]), abs=1e-6)


def test_bleu_4_is_sacrebleus():
    sacrebleu = needs("sacrebleu")
    said, true = ([" ".join(words) for words in side] for side in (SAID, [truths[0] for truths in TRUE]))
    score = sacrebleu.corpus_bleu(said, [true], tokenize="none", smooth_method="none", force=True).score
    ours = bleu(SAID, [truths[:1] for truths in TRUE]).corpus[3]
    assert ours == pytest.approx(score / 100, abs=1e-6)


def test_rouge_l_is_rouge_scores():
    needs("rouge_score")
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    for said, truths in zip(SAID, TRUE, strict=True):
        theirs = scorer.score(" ".join(truths[0]), " ".join(said))["rougeL"].fmeasure
        assert rouge_l(said, truths[:1], beta=1) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.slow
def test_meteor_is_the_real_program_and_its_exact_mode_is_near_ours():
    """Two beam searches may keep different alignments: 0.03 on a text, 0.002 on the mean."""
    package = needs("pycocoevalcap")
    if shutil.which("java") is None:
        pytest.skip("parity: METEOR needs Java")
    said, true = SAID[:30], [truths[:1] for truths in TRUE[:30]]
    corpus, each = meteor(said, true)
    assert 0 < corpus < 1
    assert len(each) == 30
    jar = Path(package.__path__[0]) / "meteor" / "meteor-1.5.jar"
    theirs = exact_mode(jar, said, true)
    ours = [meteor_exact(s, t) for s, t in zip(said, true, strict=True)]
    assert ours == pytest.approx(theirs, abs=0.03)
    assert sum(ours) / 30 == pytest.approx(sum(theirs) / 30, abs=0.002)


def exact_mode(jar, said, true):
    """Scores by the program without its data: equal words only, all words alike."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("said", "true")]
        files[0].write_text("\n".join(map(" ".join, said)))
        files[1].write_text("\n".join(" ".join(truths[0]) for truths in true))
        command = ["java", "-Xmx1G", "-jar", str(jar), *map(str, files), "-l", "en", "-q"]
        command += ["-m", "exact", "-w", "1.0", "-p", "0.85 0.2 0.6 0.5"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.split()
    return [float(line) for line in lines]


ANSWERS = [
    ("right frontal lobe", "right frontal lobe of the brain"),
    ("liver", "liver"),
    ("spleen", "liver"),
    ("the left left lung", "left lung lung"),
    ("a mass in the left upper lobe", "left upper lobe mass"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("said", "true"), ANSWERS)
def test_medevalkits_bleu_is_nltks(said, true):
    needs("nltk")
    from nltk.translate.bleu_score import sentence_bleu

    for n in range(1, 5):
        theirs = sentence_bleu([true.split(" ")], said.split(" "), weights=[1 / n] * n)
        assert open_scores(said, true)[f"bleu{n}"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("said", "true"), ANSWERS)
def test_medevalkits_rouge_is_that_packages(said, true):
    theirs = needs("rouge").Rouge().get_scores(said, true)[0]
    for ours, name in (("rouge1", "rouge-1"), ("rouge2", "rouge-2"), ("rougel", "rouge-l")):
        assert open_scores(said, true)[ours] == pytest.approx(theirs[name]["f"], abs=1e-6)
