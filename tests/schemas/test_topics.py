"""Topics: built and read both ways, and nothing that is no id gets into one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas import topics
from icebus.schemas.ids import is_id
from icebus.schemas.topics import ALL, SELF, TOPICS, Role, Topic, read_topic

ids = st.text("AZaz09_-", min_size=1, max_size=8) | st.just("x" * 64)
each_topic = pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)


def matches(pattern: str, topic: str) -> bool:
    """MQTT's matching of filters without `#`, written down once more."""
    left, right = pattern.split("/"), topic.split("/")
    return len(left) == len(right) and all(a in ("+", b) for a, b in zip(left, right, strict=True))


def levels(topic: Topic) -> st.SearchStrategy[dict[str, str]]:
    return st.fixed_dictionaries(dict.fromkeys(topic.levels, ids))


@each_topic
@given(data=st.data())
def test_given_ids_then_a_topic_is_built_and_read_back(data: st.DataObject, topic: Topic) -> None:
    chosen = data.draw(levels(topic))
    built = topic(**chosen)
    assert built.family is topic
    assert topic.parse(built) == chosen
    again = read_topic(str(built))
    assert (again, again.family) == (built, topic)
    assert built.count("/") == topic.template.count("/")


@each_topic
@given(data=st.data())
def test_given_ids_then_only_their_own_family_reads_the_topic(
    data: st.DataObject, topic: Topic
) -> None:
    built = topic(**data.draw(levels(topic)))
    assert [name for name, other in TOPICS.items() if other.parse(built) is not None] == [
        name for name, other in TOPICS.items() if other is topic
    ]


@each_topic
@given(data=st.data())
def test_given_a_filter_then_it_matches_exactly_the_topics_with_its_ids(
    data: st.DataObject, topic: Topic
) -> None:
    fixed, other = data.draw(levels(topic)), data.draw(levels(topic))
    kept = data.draw(st.sets(st.sampled_from(topic.levels))) if topic.levels else set()
    pattern = topic.filter(**{level: fixed[level] for level in kept})
    assert matches(pattern, topic(**fixed))
    assert matches(pattern, topic(**other)) == all(fixed[level] == other[level] for level in kept)
    stranger = data.draw(st.sampled_from([each for each in TOPICS.values() if each is not topic]))
    assert not matches(pattern, stranger(**data.draw(levels(stranger))))


@each_topic
@given(data=st.data(), wrong=st.text(max_size=70).filter(lambda text: not is_id(text)))
def test_given_what_is_no_id_then_no_topic_is_built_of_it(
    data: st.DataObject, wrong: str, topic: Topic
) -> None:
    if not topic.levels:
        return
    chosen = data.draw(levels(topic))
    level = data.draw(st.sampled_from(topic.levels))
    with pytest.raises(ValueError, match=level):
        topic(**{**chosen, level: wrong})
    with pytest.raises(ValueError, match=level):
        topic.filter(**{level: wrong})
    assert topic.parse(topic(**chosen).replace(chosen[level], f"{chosen[level]}{wrong}/")) is None


@pytest.mark.parametrize("wrong", ["+", "#", "", "a/b", "a b", "x" * 65, "ü", "a\n", "\0", "."])
def test_given_a_wildcard_or_a_separator_then_it_is_refused(wrong: str) -> None:
    for topic in TOPICS.values():
        for level in topic.levels:
            with pytest.raises(ValueError, match=level):
                topic(**{**dict.fromkeys(topic.levels, "a"), level: wrong})


@each_topic
def test_given_levels_that_are_not_its_own_then_it_is_refused(topic: Topic) -> None:
    right = dict.fromkeys(topic.levels, "a")
    with pytest.raises(ValueError, match="takes"):
        topic(**right, stranger="a")
    with pytest.raises(ValueError, match="stranger"):
        topic.filter(stranger="a")
    for level in topic.levels:
        with pytest.raises(ValueError, match="takes"):
            topic(**{name: "a" for name in right if name != level})
        with pytest.raises(ValueError, match="stranger"):
            topic(**{name if name != level else "stranger": "a" for name in right})


@each_topic
@given(text=st.text(max_size=100))
def test_given_any_text_then_reading_it_as_a_topic_gives_ids_or_nothing(
    text: str, topic: Topic
) -> None:
    found = topic.parse(text)
    assert found is None or topic(**found) == text


@pytest.mark.parametrize("text", ["", "control", "worker/w1/device", "worker/w1/device/a b", "x/y"])
def test_given_what_no_topic_is_spelt_like_then_it_is_not_read(text: str) -> None:
    with pytest.raises(ValueError, match="no topic"):
        read_topic(text)


def test_given_the_table_then_every_topic_of_the_module_is_in_it() -> None:
    assert set(TOPICS) == {name for name, value in vars(topics).items() if isinstance(value, Topic)}
    assert len({topic.template for topic in TOPICS.values()}) == len(TOPICS)


@each_topic
def test_given_a_grant_then_it_is_about_levels_the_topic_has(topic: Topic) -> None:
    for grants in (topic.writers, topic.readers):
        assert grants
        for grant in grants.values():
            assert set(grant) <= set(topic.levels)
            assert all(value == SELF or is_id(value) for value in grant.values())


@each_topic
def test_given_who_writes_then_their_identity_is_in_the_topic_or_they_are_control_or_broker(
    topic: Topic,
) -> None:
    for role, grant in topic.writers.items():
        assert role in {Role.CONTROL, Role.BROKER} or SELF in grant.values()
        assert role is not Role.OBSERVER


def test_given_what_everybody_reads_then_users_and_admins_read_it_as_observers() -> None:
    assert set(ALL) == {Role.CONTROL, Role.WORKER, Role.OBSERVER}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DESIRED", "worker/w/desired/s"),
        ("REPLY", "user/u/client/c/reply/x"),
        ("EVENT", "user/u/reservation/r/event/x/s/e"),
        ("CONTROL_HEARTBEAT", "control/heartbeat"),
    ],
)
def test_given_the_contract_then_topics_are_spelt_as_documented(name: str, expected: str) -> None:
    short = {
        "worker": "w",
        "serial": "s",
        "user": "u",
        "client": "c",
        "sender": "x",
        "reservation": "r",
        "event": "e",
    }
    topic = TOPICS[name]
    chosen: dict[str, Any] = {level: short[level] for level in topic.levels}
    assert topic(**chosen) == expected
