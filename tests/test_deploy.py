"""What lies in deploy/: checked by the programs it is for, where this machine has them."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from crmkit.web.limit import Limits

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"


def run(*command: str | Path, **given: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600, **given)


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_the_page_names_every_file() -> None:
    page = (DEPLOY / "README.md").read_text("utf-8")
    for file in DEPLOY.iterdir():
        assert f"`{file.name}`" in page or file.name == "README.md", file.name


# --- systemd ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is there: the verifier looks for it."""
    text = (DEPLOY / "crmkit.service").read_text("utf-8")
    assert "/opt/crmkit/bin/crmkit" in text
    path = tmp_path / "crmkit.service"
    path.write_text(text.replace("/opt/crmkit/bin/crmkit", "/bin/true"), "utf-8")
    return path


def test_the_unit_is_one_systemd_takes(unit: Path) -> None:
    found = run(program("systemd-analyze"), "verify", "--man=no", unit)
    assert (found.returncode, found.stderr) == (0, "")


def test_the_unit_exposes_little(unit: Path) -> None:
    found = run(program("systemd-analyze"), "security", "--offline=yes", "--no-pager", "--threshold=20", unit)
    assert found.returncode == 0, found.stdout
    exposure = re.search(r"Overall exposure level for crmkit.service: ([\d.]+)", found.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= 2.0


def test_the_unit_and_the_image_run_commands_there_are() -> None:
    from click.testing import CliRunner

    from crmkit.cli import cli

    unit = re.search(r"^ExecStart=\S+ --config \S+ (.+)$", (DEPLOY / "crmkit.service").read_text("utf-8"), re.M)
    assert unit is not None
    image = json.loads(instructions(DEPLOY / "Dockerfile")["CMD"][-1])
    known = CliRunner().invoke(cli, ["run", "--help"]).output
    for command in (unit[1].split(), image):
        assert command[0] == "run"
        for option in command[1:]:
            assert not option.startswith("--") or f"{option} " in known or f"{option}\n" in known, option


def test_the_script_for_operators_is_a_script() -> None:
    assert os.access(DEPLOY / "crmkit-admin", os.X_OK)
    assert run("sh", "-n", DEPLOY / "crmkit-admin").returncode == 0


# --- containers -------------------------------------------------------------------------------------------------------


def instructions(file: Path) -> dict[str, list[str]]:
    """{instruction: what it is given}, in their order."""
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n", "", file.read_text("utf-8")).splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
    return found


def test_the_image_runs_without_rights_and_is_asked_how_it_is() -> None:
    said = instructions(DEPLOY / "Dockerfile")
    assert said["USER"] == ["10001"]
    assert all(":" in one for one in said["FROM"])
    assert len(said["HEALTHCHECK"]) == 1
    assert "/healthz" in said["HEALTHCHECK"][0]
    assert not any(word in line for line in said["RUN"] for word in ("curl", "apt-get", "--index-url"))


def test_what_is_ignored_leaves_what_a_build_needs() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"crmkit", "plugins", project["readme"], *project["license-files"]} <= set(kept)


def test_the_compose_file_says_what_belongs_together() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    services = compose["services"]
    assert set(services) == {"crmkit", "postgres"}
    for name, service in services.items():
        for secret in service["secrets"]:
            assert compose["secrets"][secret]["file"].startswith("./secrets/"), name
        for network in service["networks"]:
            assert network in compose["networks"]
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source.startswith("./") or source in compose["volumes"], volume
        assert "no-new-privileges:true" in service["security_opt"]
    assert "ports" not in services["postgres"]
    assert services["crmkit"]["ports"] == ["127.0.0.1:8000:8000"]
    assert services["crmkit"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"][1]
    assert (DEPLOY / services["crmkit"]["build"]["context"] / services["crmkit"]["build"]["dockerfile"]).exists()
    assert not any("password" in str(value).lower() for value in _values(services) if not _is_a_secret(str(value)))


def _values(held: Any) -> list[Any]:
    parts = held.values() if isinstance(held, dict) else held if isinstance(held, list) else ()
    return [one for part in parts for one in _values(part)] if parts else [held]


def _is_a_secret(value: str) -> bool:
    return value in {"postgres_password", "/run/secrets/postgres_password"}


def test_the_configuration_it_mounts_is_one(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from crmkit.cli import cli

    text = (DEPLOY / "crmkit.toml").read_text("utf-8").replace("/run/secrets", str(tmp_path))
    (tmp_path / "database").write_text(f"sqlite:///{tmp_path}/crm.db")
    (tmp_path / "link_key").write_text("0123456789abcdef0123456789abcdef")
    (tmp_path / "crmkit.toml").write_text(text)
    found = CliRunner().invoke(cli, ["--config", str(tmp_path / "crmkit.toml"), "config", "check"])
    assert found.exit_code == 0, found.output


def test_what_was_delivered_is_noted_in_a_place_that_is_kept_and_is_not_the_databases() -> None:
    """SEMANTICS 29: in the image, under compose and under systemd; whoever operates uses the same."""
    said = instructions(DEPLOY / "Dockerfile")
    place = next(one.split("CRMKIT_STATE=")[1].split()[0] for one in said["ENV"] if "CRMKIT_STATE=" in one)
    assert place in said["VOLUME"][0].split()
    assert any(line.startswith("install -d -o 10001") and line.endswith(place) for line in said["RUN"])
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    kept = dict(one.split(":")[:2] for one in compose["services"]["crmkit"]["volumes"])
    assert kept["state"] == place
    assert compose["services"]["postgres"]["volumes"] == ["database:/var/lib/postgresql/data"]
    for file in ("crmkit.service", "crmkit-admin"):
        text = (DEPLOY / file).read_text("utf-8")
        assert f"CRMKIT_STATE={place}" in text
        assert re.search(r'StateDirectory=crmkit crmkit-state"?$| crmkit-state" ', text, re.M)


@pytest.mark.wheels
def test_what_the_image_is_built_by_builds_it(tmp_path: Path) -> None:
    """The very lines of the Dockerfile, in a folder instead of an image."""
    source, target = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    for name in ("crmkit", "plugins", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "CHANGELOG.md"):
        here = ROOT / name
        if here.is_dir():
            shutil.copytree(here, source / name, ignore=shutil.ignore_patterns("__pycache__", "tests", "*.db"))
        else:
            shutil.copy(here, source / name)
    for line in instructions(DEPLOY / "Dockerfile")["RUN"]:
        if not line.startswith(("useradd", "install -d")):
            done = run("sh", "-c", line.replace("/opt/crmkit", str(target)), cwd=source)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    assert run(target / "bin" / "crmkit", "--version").stdout.startswith("crmkit ")
    assert "woocommerce" in run(target / "bin" / "crmkit", "plugins", "list").stdout


# --- nginx ------------------------------------------------------------------------------------------------------------


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    nginx = os.environ.get("CRMKIT_NGINX") or program("nginx")
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    text = text.replace("/etc/ssl/crm.example.com", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
    key = ("-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=crm.example.com", "-days", "1")
    run(program("openssl"), "req", *key, "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    whole = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ {temporary} {text} }}"
    (tmp_path / "nginx.conf").write_text(whole)
    found = run(nginx, "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf")
    assert found.returncode == 0, found.stderr


def test_one_click_from_a_mail_providers_few_addresses_is_not_held_up_as_pages_are() -> None:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    rates = {zone: int(rate) for zone, rate in re.findall(r"zone=(\w+):\w+ rate=(\d+)r/s;", text)}
    places = dict(re.findall(r"^    location (\S+) \{(.*?)^    \}", text, re.M | re.S))
    found = {place: re.search(r"limit_req zone=(\w+) burst=(\d+) nodelay;", body) for place, body in places.items()}
    unsubscribe, pages = found["/u/"], found["/"]
    assert unsubscribe is not None
    assert pages is not None
    own = Limits().calls
    assert (rates[unsubscribe[1]], int(unsubscribe[2])) == (own.per_second, own.burst)
    assert rates[pages[1]] < rates[unsubscribe[1]]
    assert "limit_conn crmkit_calls" in places["/u/"]


def test_no_log_of_nginx_holds_a_path() -> None:
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    form = re.search(r"log_format crmkit ([^;]*);", text)
    assert form is not None
    assert not re.search(r"\$(request|request_uri|uri|args|http_referer|remote_addr)\b", form[1])
    logs = re.findall(r"^\s*(access_log|error_log)\s+([^;]*);", text, re.M)
    assert {kind for kind, _ in logs} == {"access_log", "error_log"}
    for kind, what in logs:
        assert what == "off" or what.endswith(" crmkit" if kind == "access_log" else " crit")
