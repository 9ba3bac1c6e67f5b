"""`benchmarks.run_vqa` with a model that looks at its prompts only, killed at a step of its writing.

    python tests/benchmarks/dying_run.py STEP FLAGS...

A step is what the process does to files under --out: it opens one for writing, writes, renames, removes. At
the given one it is killed with SIGKILL, before an act and in the middle of a write; 0 lets it live, and the
last line that it prints is the number of steps. Steps, unlike seconds, are the same places on any machine.
"""

import io
import os
import signal
import sys
from pathlib import Path

from benchmarks import run_vqa, session

ACTS = ("os.rename", "os.remove", "os.mkdir", "os.truncate")
_WRITING = os.O_WRONLY | os.O_RDWR


class Course:
    """Counts steps under a folder; one of them is the last."""

    def __init__(self, folder, last):
        self.folder, self.last, self.count = str(folder.resolve()), last, 0

    def inside(self, path):
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.folder)

    def step(self):
        """Count; whether it is the last."""
        self.count += 1
        return self.count == self.last

    def audit(self, event, args):
        acts = event in ACTS or (event == "open" and args[2] & _WRITING)
        if acts and self.inside(args[0]) and self.step():
            die()


class Torn(io.FileIO):
    """A file whose write is cut in the middle when it is the last step."""

    course: Course

    def write(self, data):
        if self.course.step():
            super().write(bytes(data)[: len(data) // 2])
            die()
        return super().write(data)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def torn_open(course, plain):
    def open_(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more):
        if mode not in ("w", "a") or not course.inside(file):
            return plain(file, mode, buffering, encoding, errors, newline, *more)
        raw = Torn(file, mode)
        raw.course = course
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=errors, newline=newline)

    return open_


class Answers:
    """Right under some conditions only; its confidence tells the size of the batch."""

    def prepare(self):
        pass

    def length(self, sample, condition):
        return len(sample.prompt)

    def answer(self, samples, condition):
        right = [len(s.prompt + condition) % 3 for s in samples]
        return [
            (s.reference if r else "no", 0.25 + len(samples) / 16)
            for s, r in zip(samples, right, strict=True)
        ]


if __name__ == "__main__":
    last, *flags = sys.argv[1:]
    course = Course(Path(flags[flags.index("--out") + 1]), int(last))
    session.region_model = lambda *_: Answers()
    session.check_regions = lambda *_: None  # would load torch to hash a grounder that is not used
    sys.argv[1:] = flags  # the manifest names the command
    io.open = torn_open(course, io.open)
    sys.addaudithook(course.audit)
    code = run_vqa.main(flags)
    print(course.count)
    sys.exit(code)
