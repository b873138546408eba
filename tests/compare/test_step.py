"""The fraud check's patches: they fit this project, and what they make of it works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farandole.compare import step
from farandole.compare.flows import FLOWS, WORDS
from farandole.errors import FarandoleError

ROOT = Path(__file__).parents[2]

PATCH = """diff --git a/a.txt b/a.txt
index 1..2 100644
--- a/a.txt
+++ b/a.txt
@@ -2,2 +2,3 @@ where
 two
+two and a half
 three
diff --git a/new/b.txt b/new/b.txt
new file mode 100644
--- /dev/null
+++ b/new/b.txt
@@ -0,0 +1,2 @@
+first
+second
"""


def test_a_patch_changes_files_and_makes_new_ones(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\nfour\n")
    step.apply(PATCH, tmp_path)
    assert (tmp_path / "a.txt").read_text() == "one\ntwo\ntwo and a half\nthree\nfour\n"
    assert (tmp_path / "new" / "b.txt").read_text() == "first\nsecond\n"


def test_a_hunk_is_found_where_lines_have_moved() -> None:
    hunk = ["@@ -2,2 +2,3 @@", " two", "+half", " three"]
    assert step.patched(["zero", "zero", "one", "two", "three"], hunk) == [
        "zero",
        "zero",
        "one",
        "two",
        "half",
        "three",
    ]


def test_of_two_places_the_nearer_one_counts() -> None:
    hunk = ["@@ -4,1 +4,1 @@", "-x", "+y"]
    assert step.patched(["x", "a", "b", "x", "x"], hunk) == ["x", "a", "b", "y", "x"]


def test_a_patch_that_does_not_fit_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\nthree\n")
    with pytest.raises(FarandoleError, match="does not fit") as caught:
        step.apply(PATCH, tmp_path)
    assert caught.value.where == "a.txt"


def test_what_is_counted() -> None:
    assert step.changes(PATCH) == [step.Change("a.txt", False, 1, 0), step.Change("new/b.txt", True, 2, 0)]
    counted = step.counted(PATCH)
    assert (counted["files"], counted["lines"]) == (2, 3)
    assert (counted["changed_files"], counted["changed_lines"], counted["new_lines"]) == (1, 1, 2)
    assert counted["changed"] == {"a.txt": 1}


@pytest.mark.parametrize("word", WORDS)
def test_a_fraudulent_order_is_refused_in_every_interleaving(word: str, tmp_path: Path) -> None:
    """The copy validates, and the real decisions, in memory and in any order, leave nothing for the audit."""
    root = tmp_path / "project"
    step.copy(ROOT, root)
    shutil.copytree(ROOT / "tests", root / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    step.apply(step.patch_of(word).read_text(), root)
    for arguments in step.THEN:
        _python(root, "farandole.cli.main", *arguments)
    # Each changes its flow in place, and the page says so from what deploy says here.
    refused = step.refused(ROOT, root)
    assert refused
    assert all(FLOWS[word] in each for each in refused)
    said = _python(root, "tests.compare.fraudulent", FLOWS[word], "20").splitlines()
    ends = {tuple(line.split()[:2]): int(line.split()[2]) for line in said}
    assert ends["fraudulent", "fraud.suspected"] > 20
    assert ends["honest", "completed"] > 20
    assert ("fraudulent", "completed") not in ends


def _python(root: Path, module: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root), "FARANDOLE_PROJECT": str(root)}
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
