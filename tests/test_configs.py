"""Every configuration opens with its command, and that command is understood."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from clip_lite.cli import parse
from clip_lite.config import TrainConfig
from clip_lite.config_checks import problems
from debias.attributes import ProtectedAttribute
from evaluation.audit_request import AuditCommand
from evaluation.metrics import chosen_metrics

ROOT = Path(__file__).parent.parent
AUDITS = sorted((ROOT / "configs").glob("audit_*.yaml"))


def test_every_benchmark_of_the_paper_has_one() -> None:
    names = {path.stem.removeprefix("audit_") for path in AUDITS}
    assert names >= {"coco_retrieval", "flickr30k", "voc07", "imagenet", "cifar", "refcoco"}
    assert names >= {"coco_gender", "fairface", "celeba", "waterbirds"}


@pytest.mark.parametrize("path", AUDITS, ids=lambda path: path.stem)
def test_an_audit_opens_with_a_command_that_is_understood(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    text = path.read_text()
    command = shlex.split(text.splitlines()[0].removeprefix("# "))
    assert command[:3] == ["python", "-m", "evaluation.audit"]
    assert "# Needs on disk" in text
    assert "# Takes, computed and not run" in text
    config, _ = parse(AuditCommand, command[3:], prog="audit", description="")
    assert config.data.root is not None
    assert list(problems(TrainConfig(data=config.data))) == []
    attribute = ProtectedAttribute.load(config.attribute) if config.attribute else None
    assert chosen_metrics(config.metrics, key="--metrics", attribute=attribute)
    assert f"`{path.name}`" in (ROOT / "README.md").read_text()
