"""What a worker is told of its devices."""

from __future__ import annotations

import pytest

from icebus.schemas.errors import InvalidRequest
from icebus.worker.labels import MOST, Labels


def test_given_labels_of_the_worker_and_of_ports_then_those_of_the_port_go_first() -> None:
    labels = Labels.parse(["rack=b", "harness=1"], ["1-1.2:harness=3", "1-1.2:lamp=on"])
    assert labels.at("1-1.1") == {"rack": "b", "harness": "1"}
    assert labels.at("1-1.2") == {"rack": "b", "harness": "3", "lamp": "on"}
    assert Labels().at("1-1.1") == {}


@pytest.mark.parametrize(
    "text", ["rack", "rack=", "=b", "ra ck=b", "rack=a b", "rack=a,b", "", "="]
)
def test_given_what_is_no_label_then_it_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no label"):
        Labels.parse([text], [])
    with pytest.raises(InvalidRequest, match="is no label"):
        Labels.parse([], [f"1-1.2:{text}"])


@pytest.mark.parametrize("text", ["harness=3", "tty0:harness=3", ":harness=3", "1-1.2"])
def test_given_what_is_no_port_then_it_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="USB port"):
        Labels.parse([], [text])


@pytest.mark.parametrize("name", ["chip", "worker", "port", "serial", "virtual", "firmware"])
def test_given_what_every_device_has_then_it_cant_be_claimed(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        Labels.parse([f"{name}=x"], [])


def test_given_too_many_labels_then_they_are_refused() -> None:
    everywhere = [f"l{number}=x" for number in range(MOST)]
    assert len(Labels.parse(everywhere, []).at("")) == MOST
    with pytest.raises(InvalidRequest, match=str(MOST)):
        Labels.parse(everywhere, ["1-1.2:one=more"])
