"""The files that users have sent."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from icebus.schemas.errors import BlobInvalid, QueueFull
from icebus.schemas.files import IDENTITY, MAX_FILE_SIZE, ZLIB, Unpacking, pack, sha256_of
from icebus.worker.blobs import KEPT_FOR, OVERHEAD, BlobStore


def put(store: BlobStore, user: str, content: bytes) -> str:
    packed, encoding = pack(content)
    name = sha256_of(content)
    store.put(user, name, packed, encoding)
    return name


@given(st.binary(max_size=2000))
def test_given_a_file_then_it_comes_back_as_it_was(content: bytes) -> None:
    store = BlobStore()
    blob = store.get("alice", put(store, "alice", content))
    assert blob is not None
    assert blob.read() == content


def test_given_a_file_then_only_its_user_has_it() -> None:
    store = BlobStore()
    name = put(store, "alice", b"secret")
    assert store.get("alice", name) is not None
    assert store.get("bob", name) is None


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (b"other bytes", IDENTITY),
        (b"right", ZLIB),
        (b"right", "brotli"),
        (zlib.compress(b"right")[:-3], ZLIB),
        (zlib.compress(bytes(MAX_FILE_SIZE + 1)), ZLIB),
        (zlib.compress(bytes(1 << 28), 9), ZLIB),
        (bytes(MAX_FILE_SIZE + 1), IDENTITY),
    ],
    ids=["other", "not zlib", "unknown", "cut", "too long", "bomb", "plainly too long"],
)
def test_given_bytes_that_are_not_the_file_then_they_are_refused(
    packed: bytes, encoding: str
) -> None:
    store = BlobStore()
    name = sha256_of(b"right")
    store.put("alice", name, packed, encoding)
    with pytest.raises(BlobInvalid):
        store.get("alice", name)
    assert store.get("alice", name) is None
    assert (store._size, store._users["alice"].size) == (0, 0)
    assert store.get("alice", put(store, "alice", b"right")) is not None


def test_given_files_that_nobody_asks_for_then_they_are_not_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_args: object) -> bytes:
        raise AssertionError("unpacked")

    monkeypatch.setattr("icebus.schemas.files.unpack", fail)
    put(BlobStore(), "alice", bytes(MAX_FILE_SIZE))


def test_given_more_files_than_one_call_may_unpack_then_the_next_is_refused_unread() -> None:
    store, unpacking = BlobStore(), Unpacking(250)
    names = [put(store, "alice", bytes([number]) * 100) for number in range(3)]
    for name in names[:2]:
        assert store.get("alice", name, unpacking) is not None
    for _ in range(2):
        with pytest.raises(QueueFull, match="unpack to more than 250 bytes"):
            store.get("alice", names[2], unpacking)
    assert store.get("alice", names[2], Unpacking(100)) is not None
    assert store.get("alice", names[2], Unpacking(100)) is not None
    with pytest.raises(QueueFull):
        store.get("alice", names[2], Unpacking(99))


def test_given_more_than_fits_then_the_least_recently_used_go() -> None:
    store = BlobStore(capacity=300 + 3 * OVERHEAD)
    contents = [bytes([n]) + bytes(range(99)) for n in range(4)]
    first, second, third = (put(store, "alice", content) for content in contents[:3])
    assert store.get("alice", first) is not None  # used again
    fourth = put(store, "alice", contents[3])
    held = [store.get("alice", name) is not None for name in (first, second, third, fourth)]
    assert held == [True, False, True, True]


@given(
    st.lists(
        st.tuples(st.sampled_from(["alice", "bob"]), st.binary(min_size=1, max_size=80)),
        max_size=40,
    )
)
def test_given_any_files_then_what_is_kept_is_bounded_and_accounted_for(
    files: list[tuple[str, bytes]],
) -> None:
    store = BlobStore(capacity=200 + 3 * OVERHEAD)
    for user, content in files:
        put(store, user, content)
        kept = [each.size for known in store._users.values() for each in known.blobs.values()]
        assert store._size == sum(kept) <= 200 + 3 * OVERHEAD


def test_given_a_file_twice_then_it_is_kept_once() -> None:
    store = BlobStore()
    put(store, "alice", b"once")
    put(store, "alice", b"once")
    assert store._size == len(b"once") + OVERHEAD


def test_given_a_user_who_floods_then_it_is_their_own_files_that_go() -> None:
    store = BlobStore(capacity=10 * OVERHEAD)
    mine = put(store, "alice", b"mine")
    for number in range(100):
        put(store, "bob", b"%d" % number)
    assert store.get("alice", mine) is not None


def test_given_files_that_nobody_asks_for_then_they_go_after_a_while() -> None:
    moment = 0.0
    store = BlobStore(clock=lambda: moment)
    old, used = put(store, "alice", b"old"), put(store, "alice", b"used")
    moment = KEPT_FOR
    assert store.get("alice", used) is not None
    moment = KEPT_FOR + 1
    put(store, "bob", b"new")
    assert store.get("alice", old) is None
    assert store.get("alice", used) is not None
