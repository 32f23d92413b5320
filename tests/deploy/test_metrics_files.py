"""The files for Grafana and Prometheus: each name in them is one that control or a worker tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from icebus.control.metrics.collector import ControlCollector
from icebus.control.metrics.counting import Counting as ControlCounting
from icebus.control.metrics.facts import FarmFacts, Reservations
from icebus.schemas.components import WorkerPhase
from icebus.schemas.database import DatabaseCause
from icebus.schemas.devices import DeviceState
from icebus.schemas.supervision.registry import open_registry
from icebus.worker.device.device_report import DeviceStatus
from icebus.worker.metrics.collector import WorkerCollector
from icebus.worker.metrics.counting import Counting as WorkerCounting
from icebus.worker.metrics.facts import WorkerFacts
from icebus.worker.states import Hold

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "metrics"
PROMTOOL = shutil.which("promtool") or shutil.which(ROOT / "build" / "prometheus" / "promtool")
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()

OF_TARGETS = {"job", "instance", "component"}
"""Labels that Prometheus adds: the last by the scrape configuration."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_MATCHERS = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w:$])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
_WORDS = {"by", "or", "and", "unless", "bool", "offset"}


class StillControl:
    """A control of which all is known."""

    id = "main"
    connected = True
    database_trouble: DatabaseCause | None = None
    certificate_ends = (1.0, 1.0)

    def farm_facts(self) -> FarmFacts:
        one = {("ready", ""): 1}
        return FarmFacts(True, one, {"ready": 1}, {"w1": 0.1}, 0, Reservations(one, 0.0))


def worker_facts() -> WorkerFacts:
    serving = DeviceStatus(DeviceState.SERVING, Hold("r", "alice"), "pulsecount")
    return WorkerFacts("w1", WorkerPhase.READY, True, 0.1, {"A": serving}, 1.0, 1.0)


def registries() -> Iterator[CollectorRegistry]:
    control, worker = open_registry("127.0.0.1:0"), open_registry("127.0.0.1:0")
    assert control is not None
    assert worker is not None
    ControlCounting(control)
    control.register(ControlCollector(StillControl()))
    yield control
    WorkerCounting(worker, ["pulsecount"])
    worker.register(WorkerCollector(worker_facts, FILES))
    yield worker


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """The names of all series that control and workers tell, with their labels."""
    found: dict[str, set[str]] = {"up": set()}
    for registry in registries():
        for collector in list(registry._collector_to_names):
            labels = set(getattr(collector, "_labelnames", ()))
            for metric in collector.collect():
                kind = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
                for ending in kind.get(metric.type, [""]):
                    more = {"le"} if ending == "_bucket" else set()
                    name = metric.name + ("_info" if metric.type == "info" else ending)
                    found.setdefault(name, set()).update(labels | more)
                for sample in metric.samples:
                    found.setdefault(sample.name, set()).update(sample.labels)
    return found


def names_in(expression: str) -> tuple[set[str], list[tuple[str, set[str]]], set[str]]:
    """The names of series in a PromQL expression, the labels that each is matched by, and those
    that anything is grouped by."""
    text = _STRING.sub('""', expression)
    matched = [
        (name, set(re.findall(r"(\w+)\s*(?:=|!|~)", labels)))
        for name, labels in _MATCHERS.findall(text)
    ]
    grouped = {each.strip() for labels in _GROUPING.findall(text) for each in labels.split(",")}
    text = re.sub(r"\[[^]]*\]", "", _GROUPING.sub("", re.sub(r"\{[^}]*\}", "", text)))
    text = re.sub(r"\b\d[\w.]*", "", text)
    return set(_NAME.findall(text)) - _WORDS, matched, grouped - {""}


def expressions() -> list[str]:
    panels = json.loads((FILES / "grafana.json").read_text())["panels"]
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    drawn = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [*drawn, *(rule["expr"] for group in rules for rule in group["rules"])]


def test_given_an_expression_then_these_tests_find_its_names() -> None:
    expression = 'sum by (le, job) (rate(a_total{job="$job",x!~"b|c"}[5m])) / 2e6 > up or time()'

    assert names_in(expression) == ({"a_total", "up"}, [("a_total", {"job", "x"})], {"le", "job"})


@pytest.mark.parametrize("expression", expressions())
def test_given_an_expression_then_its_series_and_labels_are_told(
    told: dict[str, set[str]], expression: str
) -> None:
    names, matched, grouped = names_in(expression)

    assert names
    assert names <= told.keys(), names - told.keys()
    for name, labels in matched:
        assert labels <= told[name] | OF_TARGETS, (name, labels)
    assert grouped <= set().union(*(told[name] for name in names)) | OF_TARGETS


def test_given_the_dashboard_then_its_panels_are_told_apart_and_lie_side_by_side() -> None:
    dashboard: dict[str, Any] = json.loads((FILES / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval"}
    assert used == variables


def test_given_the_alerts_then_each_says_what_to_do_and_how_bad_it_is() -> None:
    [group] = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} <= rule["annotations"].keys()
        assert "for" in rule


def test_given_the_document_then_the_metrics_it_names_are_told(told: dict[str, set[str]]) -> None:
    named = set(re.findall(r"`(icebus_(?:control|worker)_\w+)`", DOCUMENT))
    assert len(named) > 10
    plain = told.keys() | {re.sub(r"_(bucket|count|sum)$", "", name) for name in told}
    assert named <= plain, named - plain


def test_given_the_scrape_configuration_then_the_document_shows_the_same_ports() -> None:
    [job] = yaml.safe_load((FILES / "prometheus.yml").read_text())["scrape_configs"]
    for each in job["static_configs"]:
        [target] = each["targets"]
        assert target in DOCUMENT
        assert each["labels"].keys() == {"component"}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here; script/promtool fetches it")
@pytest.mark.parametrize(
    "words", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_given_promtool_then_it_finds_nothing_wrong(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *words], cwd=FILES, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
