"""Whatever a program gives for a bitstream: something that can be sent, or one typed error."""

from __future__ import annotations

import json
import string
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from icebus.client._evaluating.bitstreams import Bitstream, Chosen, load
from icebus.schemas.errors import IcebusError
from icebus.schemas.files import File

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=())),
    st.binary(max_size=20),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.just(object()),
    st.just(int),
    st.binary(max_size=8).map(lambda data: memoryview(data)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=4),
        st.frozensets(st.text(string.ascii_lowercase, max_size=3), max_size=3),
    ),
    max_leaves=10,
)
SOURCES = st.one_of(
    VALUES,
    st.tuples(VALUES, VALUES),
    st.builds(SimpleNamespace, data=VALUES, name=VALUES, annotations=VALUES),
    st.builds(SimpleNamespace, data=st.binary(max_size=8), name=VALUES, annotations=VALUES),
)


def sendable(source: Any) -> Bitstream:
    chosen = Chosen.of(source)
    assert chosen.serials is None or (
        chosen.serials and all(isinstance(serial, str) for serial in chosen.serials)
    )
    return load(chosen.source)


@given(source=SOURCES)
def test_given_anything_for_a_bitstream_then_it_can_be_sent_or_is_refused(source: Any) -> None:
    try:
        made = sendable(source)
    except IcebusError:
        return
    file = File(id="e", name=made.name, annotations=dict(made.annotations), sha256=made.blob.sha256)
    again = File.model_validate_json(json.dumps(file.model_dump(mode="json")).encode())
    assert (again.name, again.annotations) == (made.name, made.annotations)
