"""How documents become pages of the site; to build it, as `script/docs` does, takes too long."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest
import yaml
from docs.site import pages, terminal
from tests.docs.reading import blocks

import icebus.client

README = PurePosixPath("README.md")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with some documents, and what they link to."""
    for name in ("README.md", "docs/a.md", "broker/README.md", "docs/images/b.png", "code/c.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("document", "link", "on_the_site"),
    [
        ("README.md", "docs/a.md", "a.md"),
        ("README.md", "docs/a.md#part", "a.md#part"),
        ("README.md", "broker", "broker.md"),
        ("docs/a.md", "../broker/README.md#x", "broker.md#x"),
        ("docs/a.md", "../README.md", "index.md"),
        ("docs/a.md", "images/b.png", "files/docs/images/b.png"),
        ("docs/a.md", "../code/c.py", "files/code/c.py"),
        ("docs/a.md", "#part", "#part"),
        ("docs/a.md", "https://example.org/a.md", "https://example.org/a.md"),
    ],
)
def test_given_a_link_when_on_the_site_then_it_leads_to_the_same(
    tree: Path, document: str, link: str, on_the_site: str
) -> None:
    text, files = pages.relink(f"See [this]({link}).", PurePosixPath(document), tree)
    assert text == f"See [this]({on_the_site})."
    assert [f"files/{each}" for each in files] == [on_the_site] * on_the_site.startswith("files/")


def test_given_a_link_to_a_folder_when_on_the_site_then_only_its_words_stay(tree: Path) -> None:
    assert pages.relink("See [`code`](code).", README, tree) == ("See `code`.", set())


def test_given_code_then_nothing_in_it_is_taken_for_a_link(tree: Path) -> None:
    text = "[a](docs/a.md)\n\n```python\nx[0](nothing)\n```\n"
    assert pages.relink(text, README, tree)[0] == text.replace("docs/a.md", "a.md")


def test_given_what_belongs_to_an_item_of_a_list_then_it_is_indented_by_four() -> None:
    text = "1. a\n   b\n\n   ```console\n   $ c\n     d\n   ```\n2. e\n- f\n  g\n\nh\n  i\n"
    assert pages.indent(text) == (
        "1. a\n    b\n\n    ```console\n    $ c\n      d\n    ```\n2. e\n- f\n    g\n\nh\n  i\n"
    )


def test_given_code_then_its_lists_are_left_as_they_are() -> None:
    text = "- a\n\n```yaml\n- b: 1\n  c: 2\n```\n\n  d\n"
    assert pages.indent(text) == text


def test_given_a_link_that_leads_nowhere_then_it_is_named_with_its_document(tree: Path) -> None:
    with pytest.raises(pages.BrokenLink, match=r"README\.md links to docs/x\.md"):
        pages.relink("[a](docs/x.md)", README, tree)


def test_given_the_documents_then_each_is_a_page_of_its_own_in_a_section_of_the_site(
    tmp_path: Path,
) -> None:
    listed = tomllib.loads(pages.CONFIGURATION.read_text())["project"]["nav"]
    left_out = list(pages.unlisted({"nav": listed}))
    assert not left_out, "add it to docs/site/zensical.toml"
    names = Counter(map(pages.page_of, pages.documents()))
    assert max(names.values()) == 1
    pages.assemble(tmp_path)
    assert {path.name for path in (tmp_path / "pages").glob("*.md")} == {
        *map(str, names),
        "library.md",
    }


def test_given_the_diagrams_then_no_sentence_in_them_is_taken_for_two() -> None:
    drawn = [
        block
        for document in pages.documents()
        for block in blocks(str(document), (pages.ROOT / document).read_text())
        if block.language == "mermaid"
    ]
    assert len(drawn) > 3
    # Mermaid reads what follows as the next statement, and draws nothing where it is none.
    assert [block.where for block in drawn if ";" in block.text] == []


def test_given_the_library_then_its_page_has_all_public_names() -> None:
    assert sorted(pages.public_names()) == sorted(icebus.client.__all__)
    page = pages.library_page({"Boards": "icebus.client.kinds.pulsecount"})
    assert set(pages.FIRST) <= set(icebus.client.__all__)
    assert "## Boards\n\n::: icebus.client.kinds.pulsecount.Boards\n" in page


def test_given_what_a_terminal_shows_when_drawn_then_the_picture_needs_nothing_from_elsewhere() -> (
    None
):
    svg = terminal.draw([("icebus devices", "SERIAL  <none>\n")])
    ElementTree.fromstring(svg)
    assert "url(http" not in svg
    assert "devices" in svg
    assert "&lt;none&gt;" in svg


def test_given_who_cites_icebus_then_version_and_authors_are_those_of_the_package() -> None:
    cited = yaml.safe_load((pages.ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]
    assert cited["cff-version"] == "1.2.0"
    for key in ("version", "license", "authors"):
        assert cited[key] == project[key]
    assert cited["abstract"] == project["description"]
    assert {"message", "title", "type"} <= set(cited)
