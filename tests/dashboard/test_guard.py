"""Who is answered, and what browsers are told to refuse by themselves."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.dashboard.conftest import Serve
from tests.dashboard.scripted_broker import ScriptedBroker, browse
from websockets.exceptions import InvalidStatus

from icebus.client.dashboard import page
from icebus.client.dashboard.guard import split_authority
from icebus.client.dashboard.settings import Settings, parse_listen
from icebus.client.dashboard.starting import Dashboard
from icebus.schemas.errors import InvalidRequest


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: str


def ask(
    dashboard: Dashboard, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
) -> Got:
    """One request, its path as it is given."""
    connection = http.client.HTTPConnection(*dashboard.running.listens, timeout=10)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Got(response.status, told, response.read().decode())
    finally:
        connection.close()


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page that was built."""
    folder = tmp_path / "built"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "assets/index-4f3c.js").write_text("'use strict'")
    (folder / "assets/odd.exe").write_text("odd")
    (tmp_path / "secret.txt").write_text("secret")
    monkeypatch.setattr(page.Page.__init__, "__defaults__", (folder,))
    return folder


@pytest.fixture
def plain(serve: Serve, scripted: ScriptedBroker) -> Dashboard:
    return serve(scripted.address)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8470", "[::1]:99", "192.168.1.7"]
)
def test_given_an_address_or_localhost_then_it_is_answered(plain: Dashboard, host: str) -> None:
    assert ask(plain, "/farm.json", {"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8470",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "",
        "127.0.0.1@evil.example",
        "a/b",
        "localhost:x",
        "[::1",
        "2130706433",
    ],
)
def test_given_another_name_then_it_is_refused_and_says_how_to_add_it(
    plain: Dashboard, host: str
) -> None:
    refused = ask(plain, "/farm.json", {"Host": host})
    assert refused.status == 421
    assert "--name" in refused.body


def test_given_a_name_that_it_was_told_then_it_is_answered(
    serve: Serve, scripted: ScriptedBroker
) -> None:
    named = serve(scripted.address, Settings(port=0, names=("Farm.Example.org",)))
    assert ask(named, "/farm.json", {"Host": "farm.example.org:8470"}).status == 200
    assert ask(named, "/farm.json", {"Host": "farm.example.org."}).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1", "", "x"]
)
def test_given_another_page_that_opens_the_websocket_then_it_is_refused(
    plain: Dashboard, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidStatus) as refused, browse(plain, origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert not [each for each in caplog.records if each.levelname == "ERROR"], "it is no failure"


def test_given_the_page_itself_or_no_browser_then_the_websocket_opens(plain: Dashboard) -> None:
    with browse(plain, origin=plain.running.url), browse(plain):
        pass


def test_given_a_proxy_that_speaks_tls_for_us_then_the_websocket_opens(plain: Dashboard) -> None:
    host = plain.running.url.partition("://")[2]
    with browse(plain, origin=f"https://{host}"):
        pass


def test_given_another_page_that_exchanges_a_link_then_it_is_refused(plain: Dashboard) -> None:
    refused = ask(plain, "/sign-in", {"Origin": "http://evil.example"}, "POST")
    assert refused.status == 403


@pytest.mark.parametrize("path", ["/", "/farm.json", "/nothing", "/assets/index-4f3c.js"])
def test_given_any_answer_then_browsers_are_told_to_run_nothing_from_elsewhere(
    built: Path, plain: Dashboard, path: str
) -> None:
    headers = ask(plain, path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize(
    ("path", "kept", "kind"),
    [
        ("/", "no-cache", "text/html; charset=utf-8"),
        ("/index.html", "no-cache", "text/html; charset=utf-8"),
        ("/farm.json", "no-store", "application/json"),
        (
            "/assets/index-4f3c.js",
            "public, max-age=31536000, immutable",
            "text/javascript; charset=utf-8",
        ),
        ("/assets/odd.exe", "public, max-age=31536000, immutable", "application/octet-stream"),
    ],
)
def test_given_a_file_then_it_says_what_it_is_and_how_long_it_may_be_kept(
    built: Path, plain: Dashboard, path: str, kept: str, kind: str
) -> None:
    got = ask(plain, path)
    assert (got.status, got.headers["cache-control"]) == (200, kept)
    assert got.headers["content-type"] == kind


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/../../secret.txt",
        "//etc/passwd",
        "/a%00b",
        "/assets/",
        "/nothing",
        "/assets/..%2f..%2fsecret.txt",
    ],
)
def test_given_a_path_out_of_the_page_then_there_is_nothing(
    built: Path, plain: Dashboard, path: str
) -> None:
    got = ask(plain, path)
    assert got.status == 404
    assert "secret" not in got.body.replace(path, "")


def test_given_a_page_that_is_not_built_then_it_says_how_to(built: Path, plain: Dashboard) -> None:
    (built / "index.html").unlink()
    missing = ask(plain, "/")
    assert missing.status == 503
    assert "script/dashboard" in missing.body
    assert missing.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7"])
def test_given_an_address_beyond_this_machine_without_tls_then_it_is_refused_unless_wanted(
    host: str,
) -> None:
    with pytest.raises(InvalidRequest, match="--without-tls"):
        Settings(host).check()
    Settings(host, without_tls=True).check()


def test_given_a_certificate_without_its_key_then_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="belong together"):
        Settings(certificate=tmp_path / "c.pem").check()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("", ("127.0.0.1", 8470)),
        ("localhost", ("127.0.0.1", 8470)),
        (":9000", ("127.0.0.1", 9000)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:8000", ("::1", 8000)),
        ("[::]", ("::", 8470)),
    ],
)
def test_given_somewhere_to_listen_then_it_is_understood(text: str, meant: Any) -> None:
    assert parse_listen(text) == meant


@pytest.mark.parametrize(
    "text", ["farm.example.org:80", "1.2.3.4:x", "1.2.3.4:99999", "[::1", "8470"]
)
def test_given_nothing_to_listen_on_then_it_says_what_is_wanted(text: str) -> None:
    with pytest.raises(InvalidRequest, match="address of this machine"):
        parse_listen(text)


def test_given_a_port_that_is_taken_then_it_says_so(scripted: ScriptedBroker) -> None:
    with pytest.raises(InvalidRequest, match="--listen"):
        Settings(port=scripted.port).listen()
    assert Settings(port=scripted.port).on_free_port().port == 0


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("farm", ("farm", 80)),
        ("FARM.:81", ("farm", 81)),
        ("[::1]", ("::1", 80)),
        ("u@farm", None),
        ("farm/x", None),
        ("farm?x", None),
        ("farm:x", None),
        ("", None),
    ],
)
def test_given_an_authority_then_its_host_and_port_are_found(text: str, meant: Any) -> None:
    assert split_authority(text, "http") == meant
