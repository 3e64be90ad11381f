"""The generated pages are what the code says."""

import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_generated_pages_are_what_the_code_says():
    result = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_changed_page_is_noticed(tmp_path):
    copy = tmp_path / "docs"
    copy.mkdir()
    shutil.copytree(REPOSITORY / "benchmarks", tmp_path / "benchmarks")
    for name in ("generate.py", "the-way.md", "cli.md", "benchmarks.md"):
        (copy / name).write_bytes((REPOSITORY / "docs" / name).read_bytes())
    page = copy / "the-way.md"
    page.write_text(page.read_text("utf-8").replace("Promises", "Hopes", 1), "utf-8")
    result = subprocess.run([sys.executable, copy / "generate.py", "--check"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "the-way.md" in result.stderr
    assert "cli.md" not in result.stderr
    assert "benchmarks.md" not in result.stderr


def test_the_tables_on_paper_follow_from_their_formulas():
    script = REPOSITORY / "benchmarks" / "ranks_on_paper.py"
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert result.stdout in (REPOSITORY / "docs" / "determinism.md").read_text("utf-8")
