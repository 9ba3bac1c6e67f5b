"""The audit log: a chain that tells every change, whole lines whatever kills the writer, no texts unasked."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from grounding.types import MedicalImage, Regions
from llm.types import Answer, Finding, Report
from medglip_agent.audit import AuditError, AuditLog, verify
from medglip_agent.exports import Result


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


def test_lines_are_chained(log: AuditLog) -> None:
    first = log.append("start", {"models": ["nano"]})
    second = log.append("ask", {"modality": None})
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [0, 1]
    assert lines[0]["prev"] == "0" * 64 and lines[1]["prev"] == first
    chain = verify(log.path)
    assert (chain.count, chain.head) == (2, second)
    assert verify(log.path, first) == chain
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_an_empty_log_is_a_chain(log: AuditLog) -> None:
    assert verify(log.path).count == 0


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda lines: [lines[0], lines[1].replace("CR", "CT"), lines[2]], "line 2: was changed"),
        (lambda lines: [lines[0], lines[2]], "line 2: does not follow"),
        (lambda lines: [lines[1], lines[2]], "line 1: does not follow"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "line 2: does not follow"),
        (lambda lines: [lines[1], lines[0], lines[2]], "line 1: does not follow"),
        (lambda lines: [*lines[:2], lines[2][:-9]], "line 3: is no whole line"),
        (lambda lines: [lines[0], "{}\n", *lines[1:]], "line 2: is no whole line"),
    ],
)
def test_every_change_is_told(log: AuditLog, damage, told: str) -> None:
    for modality in ("MR", "CR", "US"):
        log.append("ask", {"modality": modality})
    lines = log.path.read_text().splitlines(keepends=True)
    log.path.write_text("".join(damage(lines)))
    with pytest.raises(AuditError, match=told):
        verify(log.path)


def test_a_noted_hash_tells_that_the_end_was_cut_off(log: AuditLog) -> None:
    log.append("ask", {})
    head = log.append("ask", {})
    log.path.write_text(log.path.read_text().splitlines(keepends=True)[0])
    assert verify(log.path).count == 1
    with pytest.raises(AuditError, match="lines were cut off"):
        verify(log.path, head)


def test_texts_are_hashed_unless_asked_for(tmp_path: Path) -> None:
    image = MedicalImage.from_array(np.zeros((4, 6), dtype=np.uint8), modality="CR")
    answer = Answer("no [R1].", Regions.empty((4, 6)), None, False, ())
    result = Result(image, answer, question="Has Mrs Smith a tumour?")
    AuditLog(tmp_path / "a").answered(result)
    AuditLog(tmp_path / "b", keep_texts=True).answered(result)
    without, with_texts = (tmp_path / "a").read_text(), (tmp_path / "b").read_text()
    assert "Smith" not in without and "R1" not in without
    assert "Smith" in with_texts and "R1" in with_texts


def test_every_kind_of_result_has_a_line(log: AuditLog) -> None:
    image = MedicalImage.from_array(np.zeros((4, 6), dtype=np.uint8), modality="CR")
    one = Regions(np.array([[0, 0, 2, 2]]), np.array([0.5]), np.array([0]), ("left lung",), (4, 6))
    none = Answer("I cannot answer this.", Regions.empty((4, 6)), None, True, (), "Nothing found.")
    report = Report((Finding("Left lung is seen.", (0,), True),), "Nothing else.", one)
    for content in (one, none, report):
        log.answered(Result(image, content))
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    told = [tuple(line[key] for key in ("event", "modality", "abstained", "regions")) for line in lines]
    assert told == [("grounding", "CR", False, 1), ("answer", "CR", True, 0), ("report", "CR", False, 1)]
    assert {line["image_sha256"] for line in lines} == {image.source_id}
    assert lines[1]["answer_sha256"] == hashlib.sha256(b"I cannot answer this.").hexdigest()
    assert len({line["answer_sha256"] for line in lines}) == 3


def test_a_line_being_written_is_no_fault_of_the_log(log: AuditLog) -> None:
    head = log.append("answer", {})
    log.append("answer", {})
    whole = log.path.read_bytes()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(f"{log.path}.lock"):
            log.path.write_bytes(whole[:-9])
            verifying = pool.submit(verify, log.path, head)
            wait([verifying], 0.2)
            log.path.write_bytes(whole)
        assert verifying.result().count == 2


def test_a_line_cut_short_is_dropped_and_that_is_logged(log: AuditLog) -> None:
    log.append("ask", {})
    with log.path.open("a") as file:
        file.write('{"seq": 1, "ti')
    again = AuditLog(log.path)
    again.append("ask", {})
    events = [json.loads(line)["event"] for line in log.path.read_text().splitlines()]
    assert events == ["ask", "recovered", "ask"]
    assert verify(log.path).count == 3


@pytest.mark.parametrize("content", ["not a log\n", "a scan without line ends", '{"hash": 1}\n', "[1]\n{"])
def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(AuditError, match=r"notes\.txt, last line: is no"):
        AuditLog(path)
    assert path.read_text() == content


@pytest.mark.parametrize("size", [60_000, 70_000, 500_000])
def test_a_long_line_is_followed_by_others(log: AuditLog, size: int) -> None:
    log.append("ask", {"answer": "x" * size})
    log.append("ask", {"answer": "y" * size})
    AuditLog(log.path).append("ask", {})
    assert verify(log.path).count == 3


def test_a_line_that_a_dying_process_cut_short_does_not_stop_the_others(log: AuditLog) -> None:
    log.append("ask", {})
    with log.path.open("a") as file:
        file.write('{"seq": 1, "ti')
    log.append("ask", {})
    assert verify(log.path).count == 3


def test_a_full_disk_leaves_the_log_as_it_was(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file may not grow by a whole line: the kernel writes a part, then refuses."""
    log.append("ask", {})
    before = log.path.read_bytes()
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 40, limits[1]))
    try:
        with pytest.raises(OSError):
            log.append("ask", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert log.path.read_bytes() == before
    log.append("ask", {})
    assert verify(log.path).count == 2


def test_threads_and_two_logs_on_one_file_keep_one_chain(log: AuditLog) -> None:
    other = AuditLog(log.path)

    def write(target: AuditLog) -> None:
        for _ in range(5):
            target.append("ask", {})

    threads = [threading.Thread(target=write, args=(target,)) for target in (log, other, log)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(log.path).count == 15


def test_kill_9_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = (
        "import sys, pathlib\nfrom medglip_agent.audit import AuditLog\n"
        "log = AuditLog(pathlib.Path(sys.argv[1]))\n"
        "while True: log.append('ask', {'answer_sha256': 'f' * 64})\n"
    )
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=root, env=dict(os.environ))
    while not path.exists() or path.read_bytes().count(b"\n") < 20:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = verify(path)
    assert before.count >= 20
    AuditLog(path).append("start", {})
    assert verify(path, before.head).count == before.count + 1
