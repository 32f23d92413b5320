"""Tell Home Assistant of a farm's boards, each of which becomes a device there (MQTT discovery).

    python examples/home_assistant.py                      # what it would be told, a line each
    python examples/home_assistant.py mqtts://USER:PASSWORD@homeassistant.local:8883

Its broker must carry the farm's topics, see docs/recipes.md. Run it again when boards were added:
what was told before is replaced.
"""

import json
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

from paho.mqtt import publish

from icebus.client import Client
from icebus.schemas.devices import DeviceReport
from icebus.schemas.topics import DEFAULT_ROOT, DEVICE, WORKER_STATE


def discovery(worker: str, report: DeviceReport) -> tuple[str, dict[str, Any]]:
    """The topic and the message that tell Home Assistant of one board."""
    own = f"icebus_{report.serial}"

    def entity(platform: str, name: str, template: str, **more: str) -> dict[str, str]:
        unique = f"{own}_{name.lower().replace(' ', '_')}"
        told = {"platform": platform, "unique_id": unique, "name": name}
        return {**told, "value_template": template, **more}

    needs = "{{ 'ON' if value_json.state in ('broken', 'quarantined', 'absent') else 'OFF' }}"
    held = "{{ 'ON' if value_json.reservation else 'OFF' }}"
    entities = [
        entity("sensor", "State", "{{ value_json.state }}", icon="mdi:state-machine"),
        entity("sensor", "Held by", "{{ value_json.user or 'nobody' }}", icon="mdi:account"),
        entity("sensor", "Reason", "{{ value_json.reason or '-' }}", icon="mdi:text"),
        entity("binary_sensor", "Needs somebody", needs, device_class="problem"),
        entity("binary_sensor", "Held", held, device_class="occupancy"),
    ]
    message = {
        "device": {
            "identifiers": [own],
            "name": f"Board {report.serial}",
            "model": f"{report.chip or 'unknown chip'}{', virtual' if report.virtual else ''}",
            "serial_number": report.serial,
            "sw_version": f"{report.firmware} {report.firmware_version}".strip(),
        },
        "origin": {"name": "icebus"},
        "components": {each["unique_id"]: each for each in entities},
        "state_topic": f"{DEFAULT_ROOT}/{DEVICE(worker=worker, serial=report.serial)}",
        "availability_topic": f"{DEFAULT_ROOT}/{WORKER_STATE(worker=worker)}",
        "availability_template": "{{ 'offline' if value_json.state in ('offline', 'lost') "
        "else 'online' }}",
        "qos": 1,
    }
    return f"homeassistant/device/{own}/config", message


def main(arguments: list[str]) -> None:
    """Print what is told, and tell it where a broker is named."""
    with Client() as client:
        boards = client.survey().devices
    messages = [discovery(worker, report) for (worker, _), report in sorted(boards.items())]
    for topic, message in messages:
        print(topic, json.dumps(message))
    for url in map(urlsplit, arguments):
        secure = url.scheme == "mqtts"
        trusted: Any = {} if secure else None  # whom this machine trusts
        publish.multiple(
            [(topic, json.dumps(message), 1, True) for topic, message in messages],
            hostname=url.hostname or "localhost",
            port=url.port or (8883 if secure else 1883),
            auth={"username": unquote(url.username), "password": unquote(url.password or "")}
            if url.username
            else None,
            tls=trusted,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
