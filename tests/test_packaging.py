# SPDX-License-Identifier: GPL-3.0-or-later
"""The places that name dependencies and the version agree."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
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


def _environment(file: str) -> list[object]:
    return yaml.safe_load((ROOT / "conda" / file).read_text())["dependencies"]


def _built(what: str, folder: Path) -> Path:
    """A wheel, unpacked; made without network, by the packages that are installed."""
    program = f"import sys, hatchling.build; hatchling.build.{what}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", program, folder], cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installation has it."""
    folder = tmp_path_factory.mktemp("wheel")
    return _built("build_wheel", folder)


def _kernels_seen_from(place: Path) -> Path:
    program = "import gpuidx.backends.cuda.sources as s; print(s.folder())"
    environment = {**os.environ, "PYTHONPATH": str(place)}
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, env=environment, cwd="/", check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


def test_conda_environment_has_the_dependencies_of_the_project() -> None:
    project = _project()
    wanted = [*project["dependencies"], *project["optional-dependencies"]["pictures"]]
    environment = _environment("environment.yml")
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


def test_conda_environment_for_a_gpu_has_cupy_besides() -> None:
    extra = dict(_split(entry) for entry in _project()["optional-dependencies"]["cuda12"])
    additions = [e for e in _environment("environment-cuda.yml") if e not in _environment("environment.yml")]
    assert additions == [f"cupy{extra['cupy-cuda12x']}"]
    assert all(e in _environment("environment-cuda.yml") for e in _environment("environment.yml"))
    assert f"cupy {extra['cupy-cuda12x']}" in (ROOT / "conda/meta.yaml").read_text()


def test_the_wheel_holds_the_kernels(wheel: Path) -> None:
    sources = {p.name: p.read_bytes() for p in (ROOT / "kernels").iterdir()}
    assert any(name.endswith(".cu") for name in sources)
    assert {p.name: p.read_bytes() for p in (wheel / "gpuidx/kernels").iterdir()} == sources


def test_kernels_are_found_in_an_installation_and_in_a_checkout(wheel: Path) -> None:
    assert _kernels_seen_from(wheel) == wheel / "gpuidx/kernels"
    assert _kernels_seen_from(ROOT) == ROOT / "kernels"


def test_an_editable_installation_has_no_copy_of_the_kernels(tmp_path: Path) -> None:
    installed = _built("build_editable", tmp_path)
    assert (installed / "_gpuidx.pth").read_text() == str(ROOT)
    assert not (installed / "gpuidx").exists()


def test_version_stands_once() -> None:
    assert "version" not in _project()
    assert f'version = "{gpuidx.__version__}"' in (ROOT / "conda/meta.yaml").read_text()


def test_every_file_names_its_licence() -> None:
    files = [
        path
        for folder in ("gpuidx", "tests", "scripts", "conda", ".ci", "kernels")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix in {"", ".py", ".cu", ".cuh", ".cpp", ".h", ".yml", ".yaml", ".sh"}
        and "__pycache__" not in path.parts
    ]
    without = [str(path) for path in files if "SPDX-License-Identifier" not in path.read_text()[:400]]
    assert without == []
