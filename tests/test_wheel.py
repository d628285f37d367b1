"""What a wheel carries: configurations, attribute files, report templates."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_an_installed_wheel_finds_its_own_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {
            "clip_lite",
            "debias",
            "evaluation",
            "clip_lite-0.1.0.dist-info",
        }
        archive.extractall(tmp_path / "site")
    script = (
        "import clip_lite, debias, evaluation.report.html as html\n"
        "from evaluation import prompt_file\n"
        "from clip_lite.cli import shipped_config\n"
        "print(clip_lite.__file__)\n"
        "print(shipped_config('emoji.yaml').exists(), debias.available_attributes())\n"
        "print(prompt_file.available_prompt_sets())\n"
        "print(sorted(name for name in html.environment().list_templates() if '/' not in name))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "site" / "clip_lite" / "__init__.py"),
        "True ['age', 'background', 'gender', 'race', 'skin_tone']",
        "['people_labels', 'people_labels_with_child', 'professions']",
        str(sorted(path.name for path in (ROOT / "evaluation/report/templates").glob("*.*"))),
    ]
