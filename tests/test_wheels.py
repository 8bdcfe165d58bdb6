"""The built wheels work where nothing of the repository is: `make wheels-check` builds them and runs this."""

import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"

pytestmark = pytest.mark.wheels


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that holds `crmkit[all]` from the wheels, with the locked dependencies."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--python", python]
    # Each by its own address: found by name, an older build of the same version may come out of a cache.
    names = {wheel: wheel.name.split("-")[0].replace("_", "-") for wheel in sorted(DIST.glob("*.whl"))}
    wheels = [f"{name}{'[all]' * (name == 'crmkit')} @ {wheel.as_uri()}" for wheel, name in names.items()]
    run(*install, "--constraint", constraints(folder), *wheels, cwd=folder)
    return python.parent


def constraints(folder: Path) -> Path:
    """The lock without its hashes, which the wheels just built cannot have."""
    pins = [
        line.removesuffix(" \\") for line in (ROOT / "requirements.lock").read_text().splitlines() if line[0] != " "
    ]
    path = folder / "constraints.txt"
    path.write_text("\n".join(pins))
    return path


def test_every_distribution_is_built() -> None:
    families = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
    built = sorted(path.name.split("-")[0] for path in DIST.glob("*.whl"))
    assert built == sorted(["crmkit", *(f"crmkit_{family}" for family in families)])


def test_a_wheel_holds_every_file_of_its_package_and_no_other() -> None:
    packages = {path.name: path for path in [ROOT / "crmkit", *ROOT.glob("plugins/*/crmkit_*")]}
    for wheel in DIST.glob("*.whl"):
        package = packages[wheel.name.split("-")[0]]
        files = {str(path.relative_to(package.parent)) for path in package.rglob("*") if path.is_file()}
        files = {name for name in files if "__pycache__" not in name}
        held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
        assert held == files


def test_the_version_is_told(bare: Path, tmp_path: Path) -> None:
    assert "0.1.0" in run(bare / "crmkit", "--version", cwd=tmp_path)


def test_the_demo_runs(bare: Path, tmp_path: Path) -> None:
    assert run(bare / "crmkit", "demo", cwd=tmp_path)
