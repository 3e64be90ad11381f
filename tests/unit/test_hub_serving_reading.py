"""A release read over the Hub's protocol by Hugging Face's own client, and what its pages show."""

import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from release_making import make_release
from serving_making import NAME, ask, client, lay_out_release, served, served_store

from treering.card.release import release_digest
from treering.config.run_directory import RunDirectory, open_run
from treering.errors import InputError, ManifestError, NotFetchedError
from treering.hub.fetching import Wanted, fetch, plan_fetch
from treering.hub.published import open_published
from treering.hub.reading import open_release
from treering.hub.serving.objects import Change, describe
from treering.hub.serving.page import repository_page
from treering.hub.serving.release import read_release
from treering.hub.serving.store import Store
from treering.hub.serving.stored import Message
from treering.provenance.manifests import read_manifest
from treering.revisions.branches import branches_of

HOSTILE_CARD = """---
license: apache-2.0
tags: [one, two]
---
# A card

<script>alert(1)</script> <img src=x onerror=alert(2)> <style>body { display: none }</style>

[a](javascript:alert(3)) [b](<data:text/html,<b>>) [c](recipe.yaml) [d](<../../../api/x>) [e](//elsewhere.example/x)
![f](figures/overview.png) ![g](https://elsewhere.example/g.png) <https://example.org/h>

| a | b |
| :- | -: |
| 1 | <b>2</b> |

```python
print("</code></pre><script>alert(4)</script>")
```
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunDirectory:
    """A release laid out; not to be changed."""
    quickstart = (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_text("utf-8")
    return lay_out_release(tmp_path_factory.mktemp("release") / "run", quickstart)


@pytest.fixture(scope="module")
def endpoint(run, tmp_path_factory) -> Iterator[str]:
    with served(read_release(run, NAME, tmp_path_factory.mktemp("aside"))) as address:
        yield address


@pytest.fixture(autouse=True)
def _alone(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


def tree(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_every_branch_comes_back_byte_for_byte(run, endpoint, tmp_path):
    api = client(endpoint, token=False)
    expected = branches_of(run)
    refs = api.list_repo_refs(NAME)
    assert {branch.name for branch in refs.branches} == expected.keys()
    for branch, files in expected.items():
        folder = Path(api.snapshot_download(NAME, revision=branch, cache_dir=tmp_path / "cache"))
        assert tree(folder) == {path: place.read_bytes() for path, place in files.items()}
    assert {"README.md", "recipe.yaml", "claims.json", "figures/overview.png", "training/training.json"} <= expected[
        "main"
    ].keys()


def test_the_client_finds_every_checksum_right(endpoint, tmp_path):
    api = client(endpoint, token=False)
    api.snapshot_download(NAME, revision="step64", cache_dir=tmp_path)
    checked = api.verify_repo_checksums(NAME, revision="step64", cache_dir=tmp_path)
    assert checked.checked_count == 4
    assert not checked.mismatches and not checked.missing_paths
    weights = next(tmp_path.rglob("model.safetensors"))
    weights.resolve().write_bytes(b"other weights")
    assert [wrong["path"] for wrong in api.verify_repo_checksums(NAME, revision="step64", cache_dir=tmp_path).mismatches] == [
        "model.safetensors"
    ]


def test_what_the_client_asks_of_a_repository(run, endpoint):
    api = client(endpoint, token=False)
    info = api.model_info(NAME, files_metadata=True)
    assert (info.id, info.author, info.pipeline_tag, info.library_name) == (NAME, "acme-lab", "text-generation", "transformers")
    assert "treering" in info.tags and info.card_data.license == "apache-2.0"
    assert info.sha == next(one.target_commit for one in api.list_repo_refs(NAME).branches if one.name == "main")
    sibling = next(one for one in info.siblings if one.rfilename == "model.safetensors")
    weights = branches_of(run)["main"]["model.safetensors"].read_bytes()
    assert sibling.lfs.sha256 == hashlib.sha256(weights).hexdigest() and sibling.size == len(weights)
    assert (
        api.model_info(NAME, revision="step0").sha
        == api.model_info(NAME, revision=api.model_info(NAME, revision="step0").sha).sha
    )
    assert [commit.title for commit in api.list_repo_commits(NAME, revision="step0")] == ["step0"]
    assert sorted(api.list_repo_files(NAME, revision="step0")) == sorted(branches_of(run)["step0"])
    assert api.file_exists(NAME, "README.md") and not api.file_exists(NAME, "README.txt")
    assert api.revision_exists(NAME, "step0") and not api.revision_exists(NAME, "step3")
    assert api.repo_exists(NAME) and not api.repo_exists("acme-lab/other")


def test_a_tree_is_listed_folder_by_folder_or_whole(endpoint):
    api = client(endpoint, token=False)
    top = {entry.path: type(entry).__name__ for entry in api.list_repo_tree(NAME)}
    assert top["figures"] == "RepoFolder" and top["README.md"] == "RepoFile"
    assert not any("/" in path for path in top)
    assert [entry.path for entry in api.list_repo_tree(NAME, "figures")] == ["figures/overview.png"]
    whole = {entry.path for entry in api.list_repo_tree(NAME, recursive=True)}
    assert {"figures", "figures/overview.png", "evaluation/heldout", "training/training.json"} <= whole
    found = api.get_paths_info(NAME, ["README.md", "figures", "none", "../../etc/passwd"])
    assert [(entry.path, type(entry).__name__) for entry in found] == [("README.md", "RepoFile"), ("figures", "RepoFolder")]
    with pytest.raises(EntryNotFoundError):
        list(api.list_repo_tree(NAME, "none"))


def test_what_is_not_there_is_said_in_the_clients_own_errors(endpoint, tmp_path):
    api = client(endpoint, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("acme-lab/other")
    with pytest.raises(RepositoryNotFoundError):
        api.dataset_info(NAME)
    with pytest.raises(RevisionNotFoundError):
        api.model_info(NAME, revision="step3")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(NAME, "none.json", cache_dir=tmp_path)
    with pytest.raises(HfHubHTTPError, match="nothing can be written here"):
        client(endpoint, "any").create_branch(NAME, branch="new")


def test_a_missing_files_answer_is_kept_with_the_commit(endpoint):
    answer = ask(endpoint, "HEAD", f"/{NAME}/resolve/main/added_tokens.json")
    assert (answer.status, answer.headers["x-error-code"], answer.content) == (404, "EntryNotFound", b"")
    assert answer.headers["x-repo-commit"] == client(endpoint, False).model_info(NAME).sha


def test_a_file_is_announced_as_the_hub_announces_it(run, endpoint):
    weights = branches_of(run)["step0"]["model.safetensors"].read_bytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    for method in ("HEAD", "GET"):
        answer = ask(endpoint, method, f"/{NAME}/resolve/step0/model.safetensors")
        assert answer.headers["etag"] == answer.headers["x-linked-etag"] == f'"{sha256}"'
        assert answer.headers["x-linked-size"] == answer.headers["content-length"] == str(len(weights))
        assert len(answer.headers["x-repo-commit"]) == 40
        assert answer.content == (weights if method == "GET" else b"")
        assert not any(name.startswith("x-xet") for name in answer.headers)
    small = ask(endpoint, "HEAD", f"/{NAME}/resolve/step0/config.json")
    assert small.headers["etag"] == f'"{describe("config.json", branches_of(run)["step0"]["config.json"].read_bytes()).git_id}"'
    assert "x-linked-etag" not in small.headers


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [("bytes=0-", 0, None), ("bytes=5-9", 5, 10), ("bytes=5-99999999", 5, None), ("bytes=-7", -7, None), ("bytes=0-0", 0, 1)],
)
def test_a_range_of_a_file_is_that_range(run, endpoint, asked, first, stop):
    weights = branches_of(run)["step0"]["model.safetensors"].read_bytes()
    answer = ask(endpoint, "GET", f"/{NAME}/resolve/step0/model.safetensors", Range=asked)
    expected = weights[first:stop]
    start = first % len(weights)
    assert (answer.status, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(weights)}"


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=16000-", "bytes=9-5", "bytes=-0", "bytes=-", "bytes=", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "0-1", ""),
        *("bytes=99999999999999999999-", "bytes=0x1-2", "bytes=--1"),
    ],
)
def test_what_is_no_range_of_the_file_is_refused(run, endpoint, asked):
    size = branches_of(run)["step0"]["model.safetensors"].stat().st_size
    answer = ask(endpoint, "GET", f"/{NAME}/resolve/step0/model.safetensors", Range=asked)
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")


def test_treering_reads_a_served_release_as_it_reads_the_hubs(run, endpoint, tmp_path):
    release = open_release(NAME, endpoint, cache=tmp_path)
    assert [revision.name for revision in release.revisions] == list(branches_of(run))[:-1]
    assert (release.folder_of(release.revisions[0]) / "model.safetensors").read_bytes().startswith(b"weights of step0")


def test_a_release_is_served_only_if_it_is_what_its_manifests_say(quickstart, tmp_path):
    run = lay_out_release(tmp_path / "run", quickstart)
    (run.stage("revisions") / "step0" / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ManifestError, match="step0/model"):
        read_release(run, NAME, tmp_path)


@pytest.mark.parametrize("change", [b"longer than it was before", None, b"as long"])
@pytest.mark.parametrize("path", ["checkpoints/step0/state.json", "order/order.json"])
def test_what_lies_beside_the_model_is_compared_with_its_manifest_too(quickstart, tmp_path, change, path):
    run = lay_out_release(tmp_path / "run", quickstart)
    place = run.path / path
    if change is None:
        place.unlink()
    else:
        place.write_bytes(change if change != b"as long" else place.read_bytes()[:-1] + b"?")
    with pytest.raises(ManifestError, match="not the file that its manifest lists"):
        read_release(run, NAME, tmp_path)


def test_large_files_beside_the_model_are_not_read_before_they_are_asked_for(quickstart, tmp_path, monkeypatch):
    run = lay_out_release(tmp_path / "run", quickstart)
    opened, open_path = set[str](), Path.open

    def watched(path: Path, *arguments: Any, **named: Any) -> Any:
        opened.add(path.name)
        return open_path(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", watched)
    release = read_release(run, NAME, tmp_path, texts=True)
    assert {"state.json", "model.safetensors"} <= opened  # the model's are compared with their manifest
    assert not {"weights.safetensors", "optimizer.safetensors", "train.bin"} & opened
    monkeypatch.undo()
    with served(release) as endpoint:
        weights = run.stage("checkpoints") / "step0" / "weights.safetensors"
        asked = f"/{NAME}-checkpoints/resolve/step0/weights.safetensors"
        answer = ask(endpoint, "GET", asked)
        assert answer.content == weights.read_bytes()
        assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
        weights.write_bytes(b"other")
        assert ask(endpoint, "GET", asked).status == 410


def test_a_release_without_a_card_is_not_served(quickstart, tmp_path):
    run = lay_out_release(tmp_path / "run", quickstart)
    (run.stage("card") / "manifest.json").unlink()
    with pytest.raises(InputError, match="`card` has not been done"):
        read_release(run, NAME, tmp_path)


@pytest.mark.parametrize("change", [b"other", b"longer than it was before", None])
def test_a_file_touched_while_it_is_served_is_no_longer_given_out(quickstart, tmp_path, change):
    run = lay_out_release(tmp_path / "run", quickstart)
    weights = run.stage("revisions") / "step0" / "model.safetensors"
    with served(read_release(run, NAME, tmp_path)) as endpoint:
        assert ask(endpoint, "HEAD", f"/{NAME}/resolve/step0/model.safetensors").status == 200
        if change is None:
            weights.unlink()
        else:
            weights.write_bytes(change)
        answer = ask(endpoint, "GET", f"/{NAME}/resolve/step0/model.safetensors")
        assert answer.status == 410 and "serving began" in answer.json()["error"]
        assert ask(endpoint, "GET", f"/{NAME}/resolve/step1/model.safetensors").status == 200


EVERYTHING = Wanted(data=True, revisions=frozenset({0, 1, 2, 4}), checkpoints=frozenset({0, 1, 2, 4}))


def contents(folder: Path, *left_out: str) -> dict[str, bytes]:
    """A run's files without those that are in no manifest, and without these."""
    beside = (".", "observe", "verification", "fetched", *left_out)
    return {path: content for path, content in tree(folder).items() if not path.startswith(beside)}


def test_all_that_is_fetched_of_a_served_run_is_the_run_byte_for_byte_and_can_be_served_again(tmp_path):
    run = make_release(tmp_path / "release")
    texts = [f"{stage}/{path}" for stage in ("corpus", "tokens") for path in _texts(run, stage)]
    for with_texts, absent in ((False, texts), (True, [])):
        (tmp_path / f"aside{with_texts}").mkdir()
        with served(read_release(run, NAME, tmp_path / f"aside{with_texts}", texts=with_texts)) as endpoint:
            published = open_published(NAME, endpoint, tmp_path / f"records{with_texts}")
            again = fetch(published, plan_fetch(published, EVERYTHING), tmp_path / f"again{with_texts}")
        assert published.digest == release_digest(run)
        assert contents(again.path) == contents(run.path, *absent)
        assert len(contents(again.path)) == len(contents(run.path)) - len(absent)
    with_all, without = tmp_path / "againTrue", open_run(tmp_path / "againFalse")
    assert read_release(open_run(with_all), NAME, tmp_path, texts=True).repositories.keys() == KEYS
    assert read_release(without, NAME, tmp_path).repositories.keys() == KEYS
    with pytest.raises(NotFetchedError, match="left out when the run was fetched"):
        read_release(without, NAME, tmp_path, texts=True)


KEYS = {("model", NAME), ("model", f"{NAME}-checkpoints"), ("dataset", f"{NAME}-data")}


def _texts(run: RunDirectory, stage: str) -> list[str]:
    records = ("corpus.json", "tokens.json", "tokenizer.json")
    return [entry.path for entry in read_manifest(run.stage(stage)).files if entry.path not in records]


def test_what_was_not_fetched_is_not_served(endpoint, tmp_path):
    published = open_published(NAME, endpoint, tmp_path / "records")
    steps = frozenset(int(branch.name[4:]) for branch in published.listings[""].everything if branch.name != "main")
    wanted = Wanted(data=False, revisions=steps, checkpoints=frozenset({0, 1}))
    part = fetch(published, plan_fetch(published, wanted), tmp_path / "part")
    assert read_release(part, NAME, tmp_path).repositories.keys() == KEYS - {("model", f"{NAME}-checkpoints")}


def test_a_shortened_content_of_a_store_is_not_given_out(tmp_path):
    with served_store(tmp_path) as (endpoint, store):
        repository = store.create("model", NAME)
        repository.push("main", [Change("a.bin", store.blobs.add_small("a.bin", b"content"))], Message("a"))
        store.blobs.path(hashlib.sha256(b"content").hexdigest()).write_bytes(b"cont")
        assert ask(endpoint, "GET", f"/{NAME}/resolve/main/a.bin").status == 410
        store.blobs.path(hashlib.sha256(b"content").hexdigest()).unlink()
        assert ask(endpoint, "GET", f"/{NAME}/resolve/main/a.bin").status == 410


def test_the_front_page_shows_the_card_and_the_branches(run, endpoint):
    pages = [ask(endpoint, "GET", path) for path in ("/", f"/{NAME}")]
    assert pages[0].content == pages[1].content
    page = pages[0].content.decode()
    commit = client(endpoint, False).model_info(NAME).sha
    assert "HF_ENDPOINT=http://127.0.0.1" in page and "<h1>acme-lab/sapling</h1>" in page
    for branch in client(endpoint, False).list_repo_refs(NAME).branches:
        assert f'<code><a href="/{NAME}/tree/{branch.name}">{branch.name}</a></code>' in page
        assert f'<a href="/{NAME}/tree/{branch.target_commit}" title="{branch.target_commit}">' in page
        assert f">{branch.target_commit[:12]}</a>" in page and f">{branch.target_commit}<" not in page
    assert f'<a href="/datasets/{NAME}-data">{NAME}-data</a> (dataset)' in page
    assert f'<a href="/{NAME}-checkpoints">{NAME}-checkpoints</a> (model)' in page
    assert f'href="/{NAME}/resolve/{commit}/claims.json"' in page
    picture = ask(endpoint, "GET", f"/{NAME}/resolve/{commit}/figures/overview.png")
    assert picture.headers["content-type"] == "image/png"


@pytest.mark.parametrize("page", [f"/{NAME}", f"/datasets/{NAME}-data", f"/{NAME}-checkpoints"])
def test_every_branch_has_a_page_from_which_each_file_comes(endpoint, page):
    branches = re.findall(r'<td><code><a href="([^"]+)">', ask(endpoint, "GET", page).content.decode())
    assert f"{page}/tree/main" in branches
    for branch in branches[:3]:
        listed = ask(endpoint, "GET", branch)
        assert listed.headers["content-security-policy"].startswith("default-src 'none'")
        rows = re.findall(r'<a href="([^"]+)">([^<]+)</a></td><td class="right">([\d,]+)</td>', listed.content.decode())
        api = client(endpoint, False)
        kind, name = ("dataset", page[10:]) if page.startswith("/datasets/") else ("model", page[1:])
        assert [path for _, path, _ in rows] == sorted(
            api.list_repo_files(name, repo_type=kind, revision=branch.rpartition("/")[2])
        )
        for address, _, size in rows:
            answer = ask(endpoint, "GET", address)
            assert (answer.status, len(answer.content)) == (200, int(size.replace(",", "")))


@pytest.mark.parametrize("address", [f"/{NAME}/tree/none", "/acme-lab/none/tree/main", f"/datasets/{NAME}/tree/main"])
def test_there_is_no_page_of_the_files_of_what_is_not_there(endpoint, address):
    assert ask(endpoint, "GET", address).status == 404


def test_a_long_list_of_files_says_how_many_more_there_are(tmp_path):
    with served_store(tmp_path) as (endpoint, store):
        repository = store.create("dataset", NAME)
        file = store.blobs.add_small("x", b"")
        repository.push("main", [Change(f"{number:04}", file) for number in range(5100)], Message("many"))
        repository.add_branch("a/b", "main")
        repository.add_tag("v1", "main")
        listed = ask(endpoint, "GET", f"/datasets/{NAME}/tree/a%2Fb").content.decode()
        assert listed.count("<tr>") == 5001 and "and 101 more" in listed
        page = ask(endpoint, "GET", "/").content.decode()
    assert f'<a href="/datasets/{NAME}/tree/a%2Fb">a/b</a>' in page
    assert f'<code><a href="/datasets/{NAME}/tree/v1">v1</a></code> (tag)' in page


def test_names_of_files_and_branches_are_text_on_every_page(tmp_path):
    path = "<b>\"'&amp;#?%2e.txt"
    with served_store(tmp_path) as (endpoint, store):
        repository = store.create("model", NAME)
        commit = repository.push("main", [Change(path, store.blobs.add_small(path, b"text"))], Message("odd"))
        listed = ask(endpoint, "GET", f"/{NAME}/tree/main").content.decode()
        assert html.escape(path) in listed and "<b>" not in listed
        [address] = [found for found in re.findall(r'<a href="([^"]+)">', listed) if f"/resolve/{commit}/%3Cb" in found]
        assert ask(endpoint, "GET", address).content == b"text"


HEADINGS = """# A card
## Quick `start`, *now*!
Under
lined
---
## Größe & <b>x</b> [link](x)
# a card
### A card
# !
[to it](#quick-start-now) [and](#none)
"""


def test_headings_have_the_ids_that_links_within_a_card_lead_to(tmp_path):
    with served_store(tmp_path) as (endpoint, store):
        change = Change("README.md", store.blobs.add_small("README.md", HEADINGS.encode()))
        store.create("model", NAME).push("main", [change], Message("a card"))
        page = ask(endpoint, "GET", "/").content.decode()
    ids = re.findall(r'<h[1-6] id="([^"]*)"', page)
    assert ids == ["a-card", "quick-start-now", "under-lined", "größe--bxb-link", "a-card-1", "a-card-2"]
    assert 'href="#quick-start-now"' in page


def test_nothing_in_a_card_runs_or_is_fetched_from_elsewhere(tmp_path):
    with served_store(tmp_path) as (endpoint, store):
        repository = store.create("model", "acme/hostile")
        change = Change("README.md", store.blobs.add_small("README.md", HOSTILE_CARD.encode()))
        commit = repository.push("main", [change], Message("<script>alert(5)</script>"))
        answer = ask(endpoint, "GET", "/acme/hostile")
        page = answer.content.decode()
        for part in ("<script", "<img src=x", "onerror=alert(2)>", "<b>2", 'href="javascript', 'href="data'):
            assert part not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert f'<img src="/acme/hostile/resolve/{commit}/figures/overview.png" alt="f"' in page
        assert f'href="/acme/hostile/resolve/{commit}/recipe.yaml"' in page
        assert '<td class="right">' in page and "style=" not in page
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "img-src 'self'" in policy and "script-src" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert (
            ask(endpoint, "GET", "/acme/hostile/resolve/main/README.md").headers["content-type"] == "application/octet-stream"
        )


@pytest.mark.parametrize(
    "card",
    [
        b"",
        b"---\n---\n",
        b"---\n: : :\n---\ntext",
        b"---\n- a\n---\n",
        b"---\na: &a [*a]\n---\n",
        b"---\nx: .nan\n---\n",
        b"---\ntags: 7\npipeline_tag: [1]\n---\n",
        b"\xff\xfe\0",
        b"---\n" + b"[" * 10_000 + b"\n---\n",
        b"> " * 5_000 + b"deep",
        b"[a](" * 5_000,
        b"x" * (3 << 20),
    ],
)
def test_any_text_may_be_a_card(cards, card):
    endpoint, store = cards
    change = Change("README.md", store.blobs.add_small("README.md", card))
    store.find("model", NAME).push("main", [change], Message("a card"))
    assert ask(endpoint, "GET", "/").status == 200
    info = ask(endpoint, "GET", f"/api/models/{NAME}")
    assert info.status == 200 and info.json()["tags"] == []


@pytest.fixture(scope="module")
def cards(tmp_path_factory) -> Iterator[tuple[str, Store]]:
    """A store with a repository whose card is pushed by each test."""
    with served_store(tmp_path_factory.mktemp("cards")) as (endpoint, store):
        store.create("model", NAME)
        yield endpoint, store


def test_a_store_lists_its_repositories(tmp_path):
    with served_store(tmp_path) as (endpoint, store):
        assert "no repository here yet" in ask(endpoint, "GET", "/").content.decode()
        store.create("model", NAME)
        store.create("dataset", NAME)
        page = ask(endpoint, "GET", "/").content.decode()
        assert f'<a href="/{NAME}">{NAME}</a> (model)' in page and f'<a href="/datasets/{NAME}">{NAME}</a> (dataset)' in page
        store.create("model", "acme-lab/oak")
        store.create("dataset", "acme-lab/oak-data")
        page = ask(endpoint, "GET", "/acme-lab/oak").content.decode()
        assert '<a href="/datasets/acme-lab/oak-data">' in page and NAME not in page
        assert "There is no card here" in ask(endpoint, "GET", f"/datasets/{NAME}").content.decode()


def test_a_page_says_the_branches_in_the_order_of_the_training(tmp_path):
    with served_store(tmp_path) as (_, store):
        repository = store.create("model", NAME)
        for branch in ("step10", "step9", "dev"):
            repository.add_branch(branch, "main")
        repository.add_tag("v1", "main")
        page = repository_page(repository, "http://here")
    order = [page.index(f">{name}</a>") for name in ("dev", "main", "step9", "step10", "v1")]
    assert order == sorted(order)


def test_paths_are_asked_about_in_json_or_as_a_form(endpoint):
    path = f"/api/models/{NAME}/paths-info/main"
    form = ask(endpoint, "POST", path, b"paths=README.md&paths=figures", Content_Type="application/x-www-form-urlencoded")
    plain = ask(endpoint, "POST", path, json.dumps({"paths": ["README.md", "figures"]}).encode())
    assert form.json() == plain.json() and len(plain.json()) == 2
    assert ask(endpoint, "POST", path, b'{"paths": "README.md"}').json() == plain.json()[:1]
