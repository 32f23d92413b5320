"""The same rights for brokers other than Mosquitto, in the form that each reads.

Written after their documentation: EMQX's ``acl.conf`` and the File RBAC extension of HiveMQ. Both
match what a client subscribes to against the filters here, where Mosquitto takes any subscription
and filters what it delivers: with them, `#` is refused instead of being quietly narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from icebus.broker.access import Principal, access_list, rights
from icebus.schemas.errors import InvalidRequest


class AccessListForm(StrEnum):
    """Whose access list."""

    MOSQUITTO = "mosquitto"
    EMQX = "emqx"
    HIVEMQ = "hivemq"


def emqx(principals: Iterable[Principal], root: str) -> str:
    """``acl.conf``: Erlang terms, the first that matches decides; what none matches is denied."""
    lines = ["%% Generated from the topic contract."]
    for each in rights(principals, root):
        for action, filters in (("publish", each.write), ("subscribe", each.read)):
            if filters:
                quoted = ", ".join(f'"{name}"' for name in filters)
                who = f'{{username, "{each.login}"}}'
                lines.append(f"{{allow, {who}, {action}, [{quoted}]}}.")
    return "\n".join([*lines, "{deny, all}."]) + "\n"


def hivemq(principals: Iterable[Principal], root: str) -> str:
    """``credentials.xml``: a user and a role for each principal, with passwords in the clear.

    Raises:
        InvalidRequest: of somebody only the hash of the password is kept.
    """
    principals = list(principals)
    unknown = ", ".join(each.id for each in principals if not each.password)
    if unknown:
        raise InvalidRequest(
            f"HiveMQ's list needs passwords in the clear, and of {unknown} only hashes are kept; "
            "`icebus-broker add NAME --new-password --keep-password` makes one that is kept"
        )
    document = Element("file-rbac")
    users, roles = SubElement(document, "users"), SubElement(document, "roles")
    for each in rights(principals, root):
        if each.login != each.principal.logs_in_as:
            continue  # of what ends only hashes are kept
        user = SubElement(users, "user")
        SubElement(user, "name").text = each.login
        SubElement(user, "password").text = each.principal.password
        SubElement(SubElement(user, "roles"), "id").text = each.principal.id
        role = SubElement(roles, "role")
        SubElement(role, "id").text = each.principal.id
        permissions = SubElement(role, "permissions")
        for activity, filters in (("PUBLISH", each.write), ("SUBSCRIBE", each.read)):
            for name in filters:
                permission = SubElement(permissions, "permission")
                SubElement(permission, "topic").text = name
                SubElement(permission, "activity").text = activity
    indent(document)
    text: str = tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{text}\n'


ACCESS_LISTS: Mapping[AccessListForm, Callable[[Iterable[Principal], str], str]] = {
    AccessListForm.MOSQUITTO: access_list,
    AccessListForm.EMQX: emqx,
    AccessListForm.HIVEMQ: hivemq,
}
"""How each is written."""
