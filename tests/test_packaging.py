"""The ways to install ltlab ask for the same things, and the README's commands are the ones that work."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base",
               "playwright": "playwright-python"}  # fmt: skip


def requirement(text: str) -> tuple[str, str]:
    name, bound = re.fullmatch(r"([A-Za-z0-9_-]+)(>=[0-9.]+)?", text).groups()
    return name, bound or ""


def test_environment_yml_and_pyproject_ask_for_the_same():
    ours = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in map(requirement, ours)}
    wanted |= {"python": PROJECT["project"]["requires-python"], "pip": ""}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    editable, *pip = pip["pip"]  # what conda-forge does not have
    assert dict(map(requirement, [*conda, *pip])) == wanted
    assert editable == "-e ." and environment["channels"] == ["conda-forge", "nodefaults"]


def test_requirements_are_lower_bounds_only():
    for text in (*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]):
        assert re.fullmatch(r"[a-z0-9_-]+>=[0-9.]+", text), text


def test_versions_agree():
    import ltlab

    assert ltlab.__version__ == PROJECT["project"]["version"] == version("ltlab")


def test_the_lock_file_is_not_committed_and_ci_runs_the_readme_s_test_command():
    assert "uv.lock" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    readme, ci = (ROOT / "README.md").read_text(encoding="utf-8"), (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nuv run pytest\n" in readme and "\nuv run pytest\n" in ci
    assert "pip install uv && uv run ltlab lab" in readme


def test_the_workflow_runs_the_readme_s_commands_for_a_small_torch():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    runs = [step["run"] for step in yaml.safe_load(text)["jobs"]["tests"]["steps"] if "run" in step]
    for command in (runs[0], runs[-1]):
        assert f"\n{command}\n" in readme
    assert "pip install" in runs[0] and runs[-1].endswith("pytest")


def test_every_table_that_the_package_reads_is_in_the_wheel():
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    for source, target in included.items():
        assert (ROOT / source).exists() and target.startswith("ltlab/_files/")
    assert "data/class_counts" in included
