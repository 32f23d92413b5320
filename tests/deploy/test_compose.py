"""compose.yaml: what it promises of every service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.deploy.conftest import Stage

ROOT = Path(__file__).parents[2]
SERVICES = ("broker", "database", "control", "dashboard", "virtual-worker")

Compose = dict[str, Any]


def test_given_the_services_then_they_are_known_to_these_tests(compose: Compose) -> None:
    assert tuple(compose["services"]) == SERVICES


@pytest.mark.parametrize("name", SERVICES)
def test_given_a_service_then_it_is_kept_running_and_may_do_little(
    compose: Compose, name: str
) -> None:
    service = compose["services"][name]

    assert service["restart"] == "unless-stopped"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"privileged", "cap_add", "pid", "ipc"}
    assert "build" in service or service["user"] not in ("root", "0")


@pytest.mark.parametrize("name", SERVICES)
def test_given_a_service_then_it_takes_no_more_of_the_machine_than_is_said(
    compose: Compose, name: str
) -> None:
    service = compose["services"][name]

    assert re.fullmatch(r"[0-9]+[mg]", service["mem_limit"])
    assert service["memswap_limit"] == service["mem_limit"], "swap is not memory"
    assert 0 < service["pids_limit"] <= 1024


def test_given_the_broker_then_it_refuses_before_it_is_killed(compose: Compose) -> None:
    from icebus.broker.mosquitto import MEMORY_LIMIT

    limit = int(compose["services"]["broker"]["mem_limit"].removesuffix("m")) << 20

    assert limit >= 1.25 * MEMORY_LIMIT


def test_given_an_image_of_ours_then_its_health_is_its_programs_own_word(
    dockerfiles: dict[str, list[Stage]],
) -> None:
    for name, stages in dockerfiles.items():
        words = stages[-1].words("HEALTHCHECK")
        if name == "client":
            assert words == ["icebus", "dashboard", "health", "--only-critical"]
            continue
        assert words[:2] == [f"icebus-{name}", "health"]
        assert "--only-critical" in words, "engines know healthy and unhealthy"


def test_given_no_setting_then_only_broker_and_page_listen_and_only_on_this_machine(
    compose: Compose,
) -> None:
    published = {
        name: service["ports"]
        for name, service in compose["services"].items()
        if "ports" in service
    }

    assert published == {
        "broker": ["127.0.0.1:8883:8883", "127.0.0.1:8884:8884"],
        "dashboard": ["127.0.0.1:8470:8470"],
    }
    assert compose["services"]["database"]["network_mode"] == "none"


@pytest.mark.parametrize("name", SERVICES)
def test_given_a_service_then_it_waits_for_the_health_of_those_that_have_a_check(
    compose: Compose, dockerfiles: dict[str, list[Stage]], name: str
) -> None:
    services = compose["services"]
    for other, how in services[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}
        if "build" in services[other]:
            component = Path(services[other]["build"]["dockerfile"]).parent.name
            assert dockerfiles[component][-1].all("HEALTHCHECK")
        else:
            assert services[other]["healthcheck"]["test"]


def test_given_what_is_mounted_then_it_is_a_declared_volume_and_all_are_used(
    compose: Compose,
) -> None:
    mounted: dict[str, list[str]] = {}
    for name, service in compose["services"].items():
        for mount in service["volumes"]:
            mounted.setdefault(mount.split(":")[0], []).append(name)

    assert mounted.keys() == compose["volumes"].keys()
    assert mounted["database-socket"] == ["database", "control"], "for it asks for no password"
    assert mounted["control-credentials"] == ["broker", "control"]
    assert mounted["dashboard-credentials"] == ["broker", "dashboard"]
    assert mounted["worker-credentials"] == ["broker", "virtual-worker"]


@pytest.mark.parametrize("name", ["broker", "control", "dashboard", "virtual-worker"])
def test_given_a_volume_of_ours_then_the_image_has_a_folder_there_that_is_its_users(
    compose: Compose, dockerfiles: dict[str, list[Stage]], name: str
) -> None:
    """An empty volume takes its owner from there; without, it would be root's."""
    service = compose["services"][name]
    component = Path(service["build"]["dockerfile"]).parent.name
    made = " ".join(dockerfiles[component][-1].all("RUN"))
    [folders] = re.findall(r"install -d -o icebus -g icebus -m 700 ([^&]*)", made)

    writable = [m.split(":")[1] for m in service["volumes"] if not m.endswith(":ro")]

    assert set(writable) <= set(folders.split())


def test_given_an_image_of_others_then_it_is_pinned_by_digest(compose: Compose) -> None:
    images = [each["image"] for each in compose["services"].values() if "build" not in each]

    assert images
    assert all(
        re.fullmatch(r"[a-z]+:[0-9][a-z0-9.-]+@sha256:[0-9a-f]{64}", name) for name in images
    )


def test_given_compose_then_no_password_stands_in_it() -> None:
    text = (ROOT / "compose.yaml").read_text()

    assert not re.search(r"://[^/\s]*:[^/\s]+@", text)
    assert not re.search(r"(?i)^\s*\w*password\w*:", text, re.MULTILINE)


def test_given_a_worker_then_it_has_time_to_end_before_it_is_killed(compose: Compose) -> None:
    from icebus.worker.cli import STOP_DEADLINE

    grace = int(compose["services"]["virtual-worker"]["stop_grace_period"].removesuffix("s"))

    assert grace > STOP_DEADLINE
