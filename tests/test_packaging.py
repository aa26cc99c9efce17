"""What an installation brings, and that the README's commands are the ones that CI runs."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

import ltlab

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def test_requirements_are_lower_bounds_only():
    tables = (PROJECT["optional-dependencies"], PYPROJECT["dependency-groups"])
    for requirement in [*PROJECT["dependencies"], *(r for table in tables for part in table.values() for r in part)]:
        assert re.fullmatch(r"[a-z0-9_-]+>=[0-9.]+|ltlab\[[a-z,]+\]", requirement), requirement


def test_versions_agree():
    assert yaml.safe_load(text("CITATION.cff"))["version"] == ltlab.__version__
    try:
        installed = metadata.version("ltlab")
    except metadata.PackageNotFoundError:
        pytest.skip("ltlab is not installed here")
    assert installed == ltlab.__version__


def test_the_lock_file_is_not_committed_and_ci_runs_the_readme_s_test_command():
    assert "uv.lock" in text(".gitignore").splitlines()
    assert "\nuv run pytest\n" in text("README.md") and "\nuv run pytest\n" in text(".ci", "run")
    assert "pip install uv && uv run ltlab lab" in text("README.md")


def test_the_workflow_runs_the_readme_s_commands_for_a_small_torch():
    jobs = yaml.safe_load(text(".github", "workflows", "tests.yml"))["jobs"]
    runs = [step["run"] for step in jobs["everything"]["steps"] if "run" in step]
    assert runs[0].startswith("uv venv && uv pip install") and runs[-1] == "uv run --no-sync pytest"
    for command in (runs[0], runs[-1]):
        assert f"\n{command}\n" in text("README.md")


def test_every_table_that_the_package_reads_is_in_the_wheel():
    included = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in included.items():
        assert (ROOT / source).exists() and target.startswith("ltlab/_files/")
    assert "data/class_counts" in included and (ROOT / "ltlab" / "py.typed").exists()
