"""Access lists for other brokers: the same rights, read back from what is written."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from icebus.broker.access import Principal, rights
from icebus.broker.other_brokers import emqx, hivemq
from icebus.schemas.topics import Role

ROOT = "icebus/v1"
PEOPLE = [
    Principal(id="main", role=Role.CONTROL),
    Principal(id="w1", role=Role.WORKER),
    Principal(id="oslo", role=Role.WORKER, speaks_for=("w2", "w3")),
    Principal(id="alice", role=Role.USER),
    Principal(id="root", role=Role.ADMIN),
    Principal(id="eve", role=Role.OBSERVER),
]
GRANTED = {
    (each.principal.id, action, name)
    for each in rights(PEOPLE, ROOT)
    for action, names in (("publish", each.write), ("subscribe", each.read))
    for name in names
}


def test_given_people_when_written_for_emqx_then_its_rules_are_their_rights() -> None:
    *rules, last = emqx(PEOPLE, ROOT).splitlines()[1:]
    read = set()
    for rule in rules:
        found = re.fullmatch(r'\{allow, \{username, "(.+?)"\}, (\w+), \[(.+)\]\}\.', rule)
        assert found is not None, rule
        who, action, names = found.groups()
        read |= {(who, action, name) for name in re.findall(r'"([^"]+)"', names)}
    assert read == GRANTED
    assert last == "{deny, all}."


def test_given_people_when_written_for_hivemq_then_its_permissions_are_their_rights() -> None:
    document = ElementTree.fromstring(hivemq(PEOPLE, ROOT))
    users = {
        user.findtext("name"): (user.findtext("password"), user.findtext("roles/id"))
        for user in document.iterfind("users/user")
    }
    assert users == {each.id: (each.password, each.id) for each in PEOPLE}
    assert {
        (role.findtext("id"), (permission.findtext("activity") or "").lower(), name)
        for role in document.iterfind("roles/role")
        for permission in role.iterfind("permissions/permission")
        if (name := permission.findtext("topic"))
    } == GRANTED
