# SPDX-License-Identifier: GPL-3.0-or-later
"""The places that name dependencies and the version agree."""

import re
import tomllib
from pathlib import Path

import yaml

import gpuidx

ROOT = Path(__file__).parent.parent
CONDA_NAME = {"msgpack": "msgpack-python", "matplotlib": "matplotlib-base"}


def _split(requirement: str) -> tuple[str, str]:
    match = re.match(r"([A-Za-z0-9-]+)\s*(.*)", requirement)
    assert match is not None
    return match[1], match[2].replace(" ", "")


def _project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_environment_has_the_dependencies_of_the_project() -> None:
    project = _project()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["pictures"]]
    environment = yaml.safe_load((ROOT / "conda/environment.yml").read_text())["dependencies"]
    pip = next(entry for entry in environment if isinstance(entry, dict))["pip"]
    have = dict(_split(entry) for entry in environment if isinstance(entry, str))
    have |= dict(_split(entry) for entry in pip if not entry.startswith("-"))
    for requirement in wanted:
        name, version = _split(requirement)
        assert have.get(CONDA_NAME.get(name, name)) == version, requirement
    assert have["python"] == project["requires-python"]


def test_conda_recipe_has_the_dependencies_of_the_project() -> None:
    project = _project()
    text = re.sub(r"{%.*?%}|{{.*?}}", "", (ROOT / "conda/meta.yaml").read_text())
    recipe = yaml.safe_load(text)
    have = dict(_split(entry) for entry in recipe["requirements"]["run"])
    for requirement in project["dependencies"]:
        name, version = _split(requirement)
        assert have.get(CONDA_NAME.get(name, name)) == version, requirement
    assert len(have) == len(project["dependencies"]) + 1


def test_version_stands_once() -> None:
    version = _project()["version"]
    assert gpuidx.__version__ == version
    assert f'version = "{version}"' in (ROOT / "conda/meta.yaml").read_text()


def test_every_file_names_its_licence() -> None:
    files = [
        path
        for folder in ("gpuidx", "tests", "scripts", "conda", ".ci", "kernels")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix in {"", ".py", ".cu", ".cuh", ".yml", ".yaml", ".sh"}
        and "__pycache__" not in path.parts
    ]
    without = [str(path) for path in files if "SPDX-License-Identifier" not in path.read_text()[:400]]
    assert without == []
