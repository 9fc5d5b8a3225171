"""The compose file: valid, closed to other machines, pinned; and, where a Docker engine answers, really run."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from jobs.flights.settings import Settings
from spark_ext.ops.submit import _program_at

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker" / "compose.yaml"
DOCKERFILE = REPOSITORY / "docker" / "millrace" / "Dockerfile"
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(COMPOSE)["services"]
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")
MINUTES = 60


def one_shot(service: dict[str, Any]) -> bool:
    return bool(service["restart"] == "no")


def engine_answers() -> tuple[bool, str]:
    if shutil.which("docker") is None:
        return False, "no program `docker` here"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=30, check=False)
    return asked.returncode == 0, f"no Docker engine answers: {asked.stderr.strip()[-200:]}"


def test_it_is_what_the_compose_specification_allows() -> None:
    checker = Path(sys.executable).with_name("check-jsonschema")
    line = [checker, "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_and_closed_to_other_machines(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"])
    assert [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")] == []
    assert service.get("network_mode") is None, "its ports would not be those of the compose file"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_ends_or_has_a_healthcheck(name: str) -> None:
    assert one_shot(SERVICES[name]) != ("healthcheck" in SERVICES[name])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_until_what_it_needs_is_done_or_healthy(name: str) -> None:
    for needed, waits in SERVICES[name].get("depends_on", {}).items():
        ends = one_shot(SERVICES[needed])
        assert waits["condition"] == ("service_completed_successfully" if ends else "service_healthy")


def test_topic_and_addresses_are_those_of_the_jobs_settings() -> None:
    settings = Settings.load("docker")
    assert settings.topic in SERVICES["topics"]["command"]
    for name in ("publisher", "check"):
        assert settings.bootstrap_servers in SERVICES[name]["command"]
    assert f"internal://{settings.bootstrap_servers}" in SERVICES["redpanda"]["command"]
    assert settings.out in SERVICES["check"]["command"]
    assert settings.out.startswith("/data/")


def test_programs_exist() -> None:
    modules = [command[2] for service in SERVICES.values() if (command := service.get("command")) and command[:2] == ["python", "-m"]]
    assert modules == ["jobs.flights.publish", "jobs.flights.check"]
    assert all(find_spec(module) for module in modules)
    submitted = SERVICES["job"]["command"][2:]
    assert (REPOSITORY / submitted[_program_at(submitted)]).is_file()


def test_the_driver_goes_by_the_name_of_its_container() -> None:
    assert "--conf=spark.driver.host=job" in SERVICES["job"]["command"]
    shared = [name for name, service in SERVICES.items() if "data:/data" in service.get("volumes", [])]
    assert shared == ["spark-worker", "job", "check"]


def test_the_dockerfile_is_pinned_and_finds_what_it_copies() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    assert all(PINNED.fullmatch(image) for image in re.findall(r"^FROM (\S+)$", text, re.MULTILINE))
    copied = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert copied, "nothing is copied"
    assert [name for name in copied if not (REPOSITORY / name).exists()] == []
    allowed = Path(f"{DOCKERFILE}.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name.split('/')[0]}" for name in copied} == {line for line in allowed if line.startswith("!")}


@pytest.mark.slow
@pytest.mark.timeout(45 * MINUTES)
def test_it_runs() -> None:
    answers, reason = engine_answers()
    if not answers:
        pytest.skip(reason)
    compose = ["docker", "compose", "--file", str(COMPOSE), "--project-name", "millrace-test"]
    try:
        subprocess.run([*compose, "build"], timeout=20 * MINUTES, check=True)
        subprocess.run([*compose, "up", "--detach"], timeout=20 * MINUTES, check=True)  # ends when `check` may start
        listed = subprocess.run([*compose, "ps", "--all", "--quiet", "check"], capture_output=True, text=True, timeout=MINUTES, check=True)
        ended = subprocess.run(["docker", "wait", listed.stdout.strip()], capture_output=True, text=True, timeout=5 * MINUTES, check=True)
        logs = subprocess.run([*compose, "logs", "--no-color"], capture_output=True, text=True, timeout=MINUTES, check=True)
        assert ended.stdout.strip() == "0", logs.stdout
    finally:
        subprocess.run([*compose, "down", "--volumes"], timeout=5 * MINUTES, check=True)
