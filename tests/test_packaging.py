"""What a clone holds and what it installs: the files that say so agree, and agree with reality."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = [
    Requirement(line)
    for lines in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in lines
]
# They follow torch, and only on Linux with CUDA.
OF_TORCH = re.compile(r"nvidia-|cuda-|triton$")


def pins() -> dict[str, Version]:
    """Canonical name to version, one of each line of constraints.txt."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            (exactly,) = pin.specifier
            assert exactly.operator == "==" and pin.marker is None and pin.url is None, line
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice"
            found[name] = Version(exactly.version)
    return found


PINS = pins()


def files() -> list[Path]:
    """All files that are committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git repository: what is committed is unknown")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("declared", DECLARED, ids=str)
def test_every_dependency_is_pinned_within_its_range(declared):
    pinned = PINS.get(canonicalize_name(declared.name))
    assert pinned is not None, f"constraints.txt does not pin {declared.name}"
    assert len(declared.specifier) > 0, f"{declared.name} has no range"
    assert pinned in declared.specifier


def needed() -> dict[str, Version]:
    """Installed version of all that is declared and all that this in turn needs on any platform."""
    found: dict[str, Version] = {}
    seen = set()
    queue = list(DECLARED)
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # an extra that is not installed
            continue
        found[name] = Version(distribution.version)
        for line in distribution.requires or []:
            further = Requirement(line)
            extras = requirement.extras or {""}
            if further.marker and (
                "platform" in str(further.marker)
                or not any(further.marker.evaluate({"extra": extra}) for extra in extras)
            ):
                continue
            queue.append(further)
    return found


def test_what_is_installed_is_what_is_pinned():
    installed = needed()
    assert {"torch", "sphinx", "pytest"} <= installed.keys()
    wrong = {
        name: (str(version), str(PINS.get(name, "not pinned")))
        for name, version in installed.items()
        # "2.14.1+cpu" is a build of 2.14.1
        if name not in PINS or version.public != PINS[name].public
    }
    assert not wrong, (
        f"installed, but pinned otherwise: {wrong}. "
        "`pip install -c constraints.txt -e .[test]` installs what is pinned."
    )


def test_every_pin_admits_every_python_of_the_project():
    """Of what is installed here; `pip install -c constraints.txt` fails where one does not."""
    allowed = SpecifierSet(PROJECT["requires-python"])
    pythons = [f"3.{minor}.0" for minor in range(9, 15) if f"3.{minor}.0" in allowed]
    assert pythons[0] == "3.11.0"
    wrong = {}
    for name in PINS:
        try:
            wanted = metadata.metadata(name).get("Requires-Python")
        except metadata.PackageNotFoundError:  # of another system
            continue
        refused = [python for python in pythons if wanted and python not in SpecifierSet(wanted)]
        if refused:
            wrong[name] = f"{wanted} refuses {', '.join(refused)}"
    assert not wrong


def test_every_import_is_of_a_dependency():
    """That other packages happen to bring it is no promise."""
    brought_by = metadata.packages_distributions()
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    optional = {"dask"}  # named in the message of the command that needs it
    imported = {}
    for path in (ROOT / "vae_nb").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            imported |= {name.partition(".")[0]: path.name for name in names}
    for name in imported.keys() - sys.stdlib_module_names - optional - {"vae_nb"}:
        owners = {canonicalize_name(owner) for owner in brought_by.get(name, [])}
        assert owners & declared, f"{imported[name]} imports {name}, of {owners or 'nobody'}"


# A module imports only what stands before it (the picture in CONTRIBUTING.md).
LAYERS = (
    *(
        "cache",
        "data",
        "convolutions",
        "models",
        "objective",
        "multirate",
        "optim",
        "recipe",
        "training",
    ),
    *("progress", "runs", "parameters", "metrics", "thumbnails", "archive", "figures", "explorer"),
    *("likelihood", "densities"),
    *("report", "archived_models", "commands", "__main__"),
)


def test_imports_fall_one_way():
    package = ROOT / "vae_nb"
    for path in package.rglob("*.py"):
        own = path.relative_to(package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            if not isinstance(node, ast.ImportFrom) or module.partition(".")[0] != "vae_nb":
                continue
            whole = module == "vae_nb"
            for name in [each.name for each in node.names] if whole else [module.split(".")[1]]:
                assert LAYERS.index(name) <= LAYERS.index(own), f"{path.name} imports {name}"


def test_nothing_is_pinned_that_cpu_builds_or_other_systems_lack():
    assert not [name for name in PINS if OF_TORCH.match(name)]


def test_jupyter_book_stays_below_2():
    (declared,) = (r for r in DECLARED if r.name == "jupyter-book")
    assert "1.0.4" in declared.specifier
    assert "1.0.4.post1" in declared.specifier
    assert "2.0.0" not in declared.specifier
    assert PINS["jupyter-book"] < Version("2")


def test_conda_environment_is_the_project_under_its_constraints():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[test]"]}
    # All else comes from pyproject.toml, so conda's part can only disagree in the Python.
    (python,) = (line for line in conda if line != "pip")
    name, _, version = python.partition("=")
    assert name == "python"
    assert Version(version) in SpecifierSet(PROJECT["requires-python"])


def test_the_environment_of_tests_and_of_binder_has_all_of_jupyterlab():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["lab"]) <= set(extras["test"])
    assert any(line.startswith("jupyterlab>") for line in extras["lab"])


def test_workflow_and_container_call_what_make_has():
    targets = set(re.findall(r"^([\w./()$-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = {target.replace("$(VENV)", ".venv") for target in targets}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = [step["run"] for step in steps if "run" in step]
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    called.append(container["postCreateCommand"])
    assert {"make test", "make book", "make verify"} <= set(called)
    assert all(command.removeprefix("make ") in targets for command in called)
    (published,) = (s for s in steps if s.get("uses", "").startswith("actions/upload-pages"))
    assert published["with"]["path"] == "book/_build/html"
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).is_file()


def test_the_running_python_and_ruff_agree_with_the_declared_one():
    declared = SpecifierSet(PROJECT["requires-python"])
    assert ".".join(map(str, sys.version_info[:3])) in declared
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (lowest,) = declared
    assert settings["tool"]["ruff"]["target-version"] == "py" + lowest.version.replace(".", "")


def test_the_package_has_the_version_of_the_project():
    import vae_nb

    assert vae_nb.__version__ == PROJECT["version"]


def test_the_top_level_is_as_promised():
    for folder in ("book", "vae_nb", "tests"):
        assert (ROOT / folder).is_dir(), folder
    for file in ("README.md", "LICENSE", "Makefile", "environment.yml", "constraints.txt"):
        assert (ROOT / file).is_file(), file
    for name in ("_config.yml", "_toc.yml"):
        book = ROOT / "book" / name
        assert book.is_file() and not book.is_symlink(), f"{book} is the real file"
        top = ROOT / name
        # Where a checkout cannot make links, git leaves a file that holds the target.
        link = top.resolve() == book or top.read_text(encoding="utf-8").strip() == f"book/{name}"
        assert link, f"{top} is a link to book/{name}"


def test_the_wheel_carries_every_file_of_the_package(tmp_path):
    ours = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vae_nb", tmp_path / "vae_nb", ignore=ours)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("vae_nb/")}
    ours = [path for path in (ROOT / "vae_nb").rglob("*") if path.is_file()]
    assert held == {
        path.relative_to(ROOT).as_posix() for path in ours if path.parent.name != "__pycache__"
    }
    assert {"archive.json", "figures.md", "explorer.css", "q1_autoencoder.md"} <= {
        name.rpartition("/")[2] for name in held
    }
    assert sum(name.endswith("-ubyte.gz") for name in held) == 4


# Put together here, so that this file does not hold what it looks for.
HOSTS = [
    host.replace(" ", "")
    for host in (
        "pypi .org",
        "python hosted.org",
        "npm js.",
        "download.py torch.org",
        "ana conda.org",
        "deb.deb ian.org",
    )
]
FOLDERS = "|".join(["work", "root", "opt", "tmp", "home"])
MACHINE = re.compile(rf"(?<![\w.~:/-])/(?:{FOLDERS})/")


def test_no_file_names_a_registry_or_a_path_of_one_machine():
    found = []
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("book/_vendor/") or path.suffix in {".gz", ".png", ".safetensors"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if MACHINE.search(line) or any(host in line for host in HOSTS):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_the_files_of_tests_that_share_the_built_book_are_known():
    """Else each of them builds it again where tests run side by side."""
    from conftest import OF_THE_BOOK

    folder = Path(__file__).parent
    fixture = re.compile(r"def \w+\([^)]*\b(quick_book|executed)\b")
    users = {path.name for path in folder.glob("test_*.py") if fixture.search(path.read_text())}
    assert users == OF_THE_BOOK
