"""Simulated releases of any size on a small Hub: files are made where they are read, so that 154 branches of 12B fit anywhere.

Weights are those of a course through a training: first weights, then a drift and a random walk whose steps follow a rate.
Numbers are a pure function of seed, tensor and place, whichever part is asked for.
"""

import functools
import hashlib
import json
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

NAME = "acme-lab/sapling"
PYTHIA_STEPS = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))
_BLOCK = 4096
_ITEMS = {"F16": 2, "F32": 4, "BF16": 2}
_TORCH_NAMES = {"F16": "float16", "F32": "float32", "BF16": "bfloat16"}


class Content(Protocol):
    """A file's content, of which any part can be had."""

    size: int
    digest: str
    large: bool

    def read(self, start: int, stop: int) -> bytes: ...


class Whole:
    """Bytes as they are, kept by git or, where they are weights, as a large file."""

    def __init__(self, content: bytes, large: bool = False) -> None:
        self.content, self.size, self.large = content, len(content), large
        blob = b"blob %d\0" % len(content) + content
        self.digest = hashlib.sha256(content).hexdigest() if large else hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        return self.content[start:stop]


class Opaque:
    """A large file that nobody should read, known by a name for its content."""

    large = True

    def __init__(self, name: str, size: int) -> None:
        self.size, self.digest = size, hashlib.sha256(name.encode()).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        raise AssertionError("an audit opens no pickle")


@dataclass(frozen=True)
class Training:
    """A training whose weights are simulated: steps that are kept, sizes of the model, and what the numbers come from."""

    steps: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64, *range(100, 1001, 100))
    hidden: int = 32
    layers: int = 4
    vocabulary: int = 128
    dtype: str = "F32"
    seed: int = 0
    shards: int = 1
    first_seed: int | None = None  # of step 0, where it is another run's
    std: float | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors of a GPT-NeoX model."""
        hidden, found = self.hidden, {"gpt_neox.embed_in.weight": (self.vocabulary, self.hidden)}
        for layer in range(self.layers):
            parts = {
                "attention.dense.bias": (hidden,),
                "attention.dense.weight": (hidden, hidden),
                "attention.query_key_value.bias": (3 * hidden,),
                "attention.query_key_value.weight": (3 * hidden, hidden),
                "input_layernorm.bias": (hidden,),
                "input_layernorm.weight": (hidden,),
                "mlp.dense_4h_to_h.bias": (hidden,),
                "mlp.dense_4h_to_h.weight": (hidden, 4 * hidden),
                "mlp.dense_h_to_4h.bias": (4 * hidden,),
                "mlp.dense_h_to_4h.weight": (4 * hidden, hidden),
                "post_attention_layernorm.bias": (hidden,),
                "post_attention_layernorm.weight": (hidden,),
            }
            found |= {f"gpt_neox.layers.{layer}.{name}": shape for name, shape in parts.items()}
        ends = {"final_layer_norm.bias": (hidden,), "final_layer_norm.weight": (hidden,)}
        return (
            found
            | {f"gpt_neox.{name}": shape for name, shape in ends.items()}
            | {"embed_out.weight": (self.vocabulary, hidden)}
        )

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @property
    def config(self) -> dict[str, Any]:
        return {
            "architectures": ["GPTNeoXForCausalLM"],
            "model_type": "gpt_neox",
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": 4,
            "intermediate_size": 4 * self.hidden,
            "max_position_embeddings": 2048,
            "vocab_size": self.vocabulary,
            "initializer_range": self.spread("gpt_neox.embed_in.weight"),
            "rotary_pct": 0.25,
            "rotary_emb_base": 10000,
            "torch_dtype": _TORCH_NAMES[self.dtype],
            "bos_token_id": 0,
            "eos_token_id": 0,
            "pad_token_id": 1,
        }

    def spread(self, tensor: str) -> float:
        """The standard deviation of first weights: `wang_init` where a layer writes to the residual stream, or `small_init`."""
        if self.std is not None:
            return self.std
        writes = tensor.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
        return 2 / self.layers / self.hidden**0.5 if writes else (2 / (5 * self.hidden)) ** 0.5

    def numbers(self, tensor: str, place: int, first: int, count: int) -> np.ndarray:
        """The numbers [first, first + count) of a tensor at a place in the list of steps, as float32."""
        blocks = range(first // _BLOCK, -(-(first + count) // _BLOCK))
        rows = [_course(self, tensor, block)[place] for block in blocks]
        start = first - blocks.start * _BLOCK
        return np.concatenate(rows)[start : start + count]

    def parts(self) -> list[dict[str, tuple[int, ...]]]:
        """The tensors of each shard: in order, of about the same number each."""
        names, each = list(self.shapes), -(-len(self.shapes) // self.shards)
        return [{name: self.shapes[name] for name in names[start : start + each]} for start in range(0, len(names), each)]

    def weights(self, place: int, **changes: Any) -> dict[str, Content]:
        """The files of weights at a place: safetensors, with their index where there are several."""
        if self.shards == 1:
            return {"model.safetensors": Shard(self, place, self.shapes, **changes)}
        names = [f"model-{number:05}-of-{self.shards:05}.safetensors" for number in range(1, self.shards + 1)]
        files: dict[str, Content] = {
            name: Shard(self, place, part, **changes) for name, part in zip(names, self.parts(), strict=True)
        }
        placed = {tensor: name for name, part in zip(names, self.parts(), strict=True) for tensor in part}
        return files | {"model.safetensors.index.json": document({"metadata": {}, "weight_map": placed})}

    def pickles(self, place: int) -> dict[str, Content]:
        """The same as pickles, which nobody opens."""
        each = self.parameters * _ITEMS[self.dtype] // self.shards
        names = [f"pytorch_model-{number:05}-of-{self.shards:05}.bin" for number in range(1, self.shards + 1)]
        return {name: Opaque(f"{self.seed} {name} {self.steps[place]}", each) for name in names}


class Shard:
    """A safetensors file of some of a training's tensors at a place, made where it is read."""

    large = True

    def __init__(
        self,
        training: Training,
        place: int,
        shapes: Mapping[str, tuple[int, ...]],
        swapped: Mapping[str, str] | None = None,
        dtype: str | None = None,
        broken: str | None = None,
    ) -> None:
        self._training, self._place, self._swapped = training, place, swapped or {}
        self._dtype, self._broken = dtype or training.dtype, broken
        header, position = dict[str, Any](), 0
        self._spans: list[tuple[int, int, str]] = []
        for name in sorted(shapes):
            size = int(np.prod(shapes[name])) * _ITEMS[self._dtype]
            header[name] = {"dtype": self._dtype, "shape": list(shapes[name]), "data_offsets": [position, position + size]}
            self._spans.append((position, position + size, name))
            position += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self._head = len(text).to_bytes(8, "little") + text
        self.size = len(self._head) + position
        told = (replace(training, steps=()), training.steps[place], sorted(shapes), self._swapped, self._dtype, broken)
        self.digest = hashlib.sha256(repr(told).encode()).hexdigest()
        if self.size < 1 << 22:
            self.digest = hashlib.sha256(self.read(0, self.size)).hexdigest()

    def read(self, start: int, stop: int) -> bytes:
        pieces = [self._head[start:stop]]
        base = len(self._head)
        for begin, end, name in self._spans:
            low, high = max(start - base, begin), min(stop - base, end)
            if low < high:
                item = _ITEMS[self._dtype]
                first, last = (low - begin) // item, -(-(high - begin) // item)
                content = self._encoded(name, first, last - first)
                pieces.append(content[low - begin - first * item : high - begin - first * item])
        return b"".join(pieces)

    def _encoded(self, name: str, first: int, count: int) -> bytes:
        numbers = self._training.numbers(self._swapped.get(name, name), self._place, first, count)
        if name == self._broken:
            numbers = np.where(np.arange(first, first + count) % 7 == 3, np.float32(np.nan), numbers)
        if self._dtype == "BF16":
            return (numbers.view(np.uint32) >> 16).astype("<u2").tobytes()
        return numbers.astype({"F16": "<f2", "F32": "<f4"}[self._dtype]).tobytes()


@functools.lru_cache(maxsize=700)
def _course(training: Training, tensor: str, block: int) -> np.ndarray:
    """The numbers of a block of a tensor at all places, one row each."""
    steps = np.asarray(training.steps, dtype=np.float64)
    random = np.random.default_rng([training.seed, zlib.crc32(tensor.encode()), block])
    first = _first(training, tensor, random)
    gaps = np.diff(steps)
    rates = np.minimum(1.0, (steps[:-1] + gaps / 2 + 1) / max(1.0, 0.01 * steps[-1]))
    rates *= 0.1 + 0.45 * (1 + np.cos(np.pi * steps[:-1] / max(1.0, steps[-1])))
    scale = 0.02 * (training.hidden / 32) ** -0.5 * np.sqrt(1000.0 / max(1000.0, steps[-1]))
    walk = random.standard_normal((len(gaps), _BLOCK), dtype=np.float32) * (scale * 0.05 * rates * np.sqrt(gaps))[:, None]
    drift = random.standard_normal(_BLOCK) * scale * 0.003
    moved = np.cumsum(walk + (rates * gaps)[:, None] * drift[None, :] * 0.3, axis=0)
    rows = first[None, :] + np.concatenate([np.zeros((1, _BLOCK)), moved])
    if training.first_seed is not None:
        other = np.random.default_rng([training.first_seed, zlib.crc32(tensor.encode()), block])
        rows[0] = _first(training, tensor, other)
    return rows.astype(np.float32)


def _first(training: Training, tensor: str, random: np.random.Generator) -> np.ndarray:
    if tensor.endswith(".bias"):
        return np.zeros(_BLOCK)
    if "layernorm" in tensor or "layer_norm" in tensor:
        return np.ones(_BLOCK)
    return random.standard_normal(_BLOCK) * training.spread(tensor)


Files = dict[str, Content]
Branches = dict[str, Files]


def document(value: Any) -> Whole:
    return Whole(json.dumps(value, indent=2).encode())


def settings(training: Training, **changes: Any) -> Files:
    """Settings and tokenizer as they load alike in transformers 4 and 5."""
    words = {"<|endoftext|>": 0, "<|padding|>": 1} | {
        f"w{number}": number for number in range(2, min(training.vocabulary, 300))
    }
    special = [{"id": number, "content": word, "special": True} for word, number in list(words.items())[:2]]
    splitter = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    model = {"type": "BPE", "vocab": words, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": special, "normalizer": None, "pre_tokenizer": splitter, "model": model}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 2048,
        **dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
        "pad_token": "<|padding|>",
    }
    found = {
        "config.json": training.config,
        "generation_config.json": {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1},
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": tokenizer_config,
    }
    changed = {name.replace("__", "."): value for name, value in changes.items()}
    return {name: document({**value, **changed.get(name, {})}) for name, value in found.items()}


def card(training: Training, changes: Mapping[str, str] | None = None, more: str = "") -> Whole:
    """A card on which every number is right, but for words that are changed."""
    parameters, steps = training.parameters, training.steps
    sizes = [f"{parameters * bytes_ / 1e9:.3f} GB" for bytes_ in (2, 4)]
    text = f"""---
license: apache-2.0
language:
- en
---

# sapling

sapling has {training.layers} layers, a hidden dimension of {training.hidden}, and 4 attention heads.
These are a total of {parameters:,} parameters; the first weights are small_init and wang_init.
It comes with {len(steps)} intermediate training checkpoints, from step 0 to the last.
Loading in fp16 requires approximately {sizes[0]} of GPU memory. The full fp32 weights are {sizes[1]} on disk.

```python
model = AutoModelForCausalLM.from_pretrained("{NAME}", revision="step{steps[min(3, len(steps) - 1)]}")
print(f"Perplexity: {{perplexity}}")
```

| Hyperparameter | Value |
| --- | --- |
| Parameters | {parameters:,} |
| Layers | {training.layers} |
| Hidden Dimension | {training.hidden} |
| Attention Heads | 4 |
| Context Length | 2,048 tokens |
| Vocabulary Size | {training.vocabulary:,} |

The model was trained for {steps[-1]:,} steps ({steps[-1] * 2048:,} tokens) with a batch size of 2,048 tokens.
{more}

```bibtex
@misc{{sapling, title={{Sapling}}, year={{2026}}}}
```
"""
    for old, new in (changes or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    return Whole(text.encode())


def release(training: Training, name: str = "step{step}", form: str = "safetensors") -> Branches:
    """A release in which nothing is wrong: a branch for each step, and `main` with the last weights and the card."""
    shared = settings(training)
    weights = training.weights if form == "safetensors" else training.pickles
    branches = {name.format(step=step): {**shared, **weights(place)} for place, step in enumerate(training.steps)}
    return branches | {"main": {**branches[name.format(step=training.steps[-1])], "README.md": card(training)}}


# The Hub

_REFS = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/refs")
_TREE = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class Hub:
    """What the server serves, what it has been asked, and what it answers instead."""

    endpoint: str
    repositories: dict[str, Branches] = field(default_factory=dict)
    commits: dict[str, Files] = field(default_factory=dict)
    page: int = 1000
    ranges: bool = True
    latency_seconds: float = 0.0
    requests: list[str] = field(default_factory=list)
    bytes_sent: int = 0
    tokens: list[str] = field(default_factory=list)
    failures: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    drips: list[tuple[str, float]] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, branches: Branches, name: str = NAME) -> None:
        """Serve a release under a name."""
        self.repositories[name] = branches
        for files in branches.values():
            self.commits[commit_of(files)] = files

    def fail(self, part: str, status: int, times: int = 1, **headers: str) -> None:
        """Answer so many requests whose line has this part in it with an error; a header's `_` is sent as `-`."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        self.failures += [(part, status, sent)] * times

    def drip(self, part: str, seconds: float, times: int = 1) -> None:
        """Send so many answers to requests whose line has this part in it a byte at a time, with a wait between bytes."""
        self.drips += [(part, seconds)] * times

    def drip_of(self, line: str) -> float | None:
        with self.lock:
            found = next((drip for drip in self.drips if drip[0] in line), None)
            if found is not None:
                self.drips.remove(found)
        return None if found is None else found[1]

    def answer_of(self, line: str) -> bytes | None:
        """Return what is answered, whatever it is, to requests whose line has a part of `answers` in it."""
        return next((content for part, content in self.answers.items() if part in line), None)

    def failure_of(self, line: str) -> tuple[int, dict[str, str]] | None:
        with self.lock:
            for number, (part, status, headers) in enumerate(self.failures):
                if part in line:
                    del self.failures[number]
                    return status, headers
        return None


def commit_of(files: Files) -> str:
    listed = sorted((path, content.digest) for path, content in files.items())
    return hashlib.sha1(json.dumps(listed).encode(), usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty Hub until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        server.hub = hub  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0002)  # client and server take turns in one process
        try:
            yield hub
        finally:
            sys.setswitchinterval(interval)
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # of a client that was closed
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        time.sleep(hub.latency_seconds)
        parts = urlsplit(self.path)
        line = f"{self.command} {parts.path}"
        with hub.lock:
            hub.requests.append(line)
            hub.tokens += [self.headers["Authorization"]] if "Authorization" in self.headers else []
        if failure := hub.failure_of(line):
            self._send(failure[0], b"{}", failure[1])
        elif (answer := hub.answer_of(line)) is not None:
            self._send(200, answer, {})
        elif match := _REFS.fullmatch(parts.path):
            self._send_refs(hub, match["repository"])
        elif match := _TREE.fullmatch(parts.path):
            self._send_tree(hub, hub.commits.get(unquote(match["revision"])), parts.query)
        elif match := _FILE.fullmatch(parts.path):
            self._send_file(hub, hub.commits.get(unquote(match["revision"]), {}).get(unquote(match["path"])), match["revision"])
        else:
            self._send(404, b"{}", {})

    do_HEAD = do_GET

    def _send_refs(self, hub: Hub, repository: str) -> None:
        if repository not in hub.repositories:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        names = hub.repositories[repository]
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(files)} for name, files in names.items()
        ]
        tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit} for name, commit in hub.tags.items()]
        self._send_json({"branches": branches, "tags": tags, "converts": []})

    def _send_tree(self, hub: Hub, files: Files | None, query: str) -> None:
        if files is None:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        entries = [_entry(path, content) for path, content in files.items()][start : start + hub.page]
        more = start + hub.page < len(files)
        link = f'<https://elsewhere.example/tree?cursor={start + hub.page}>; rel="next"'
        self._send_json(entries, {"Link": link} if more else {})

    def _send_file(self, hub: Hub, content: Content | None, commit: str) -> None:
        if content is None:
            self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{content.digest}"', "Content-Type": "application/octet-stream"}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or not hub.ranges:
            self._send(200, content.read(0, content.size), headers)
            return
        start, stop = int(match[1]), min(int(match[2]) + 1, content.size)
        self._send(206, content.read(start, stop), headers | {"Content-Range": f"bytes {start}-{stop - 1}/{content.size}"})

    def _send_json(self, value: Any, headers: Mapping[str, str] | None = None) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        with hub.lock:
            hub.bytes_sent += len(content)
        if self.command != "HEAD":
            self._write(content, hub.drip_of(f"{self.command} {urlsplit(self.path).path}"))

    def _write(self, content: bytes, wait_seconds: float | None) -> None:
        if wait_seconds is None:
            self.wfile.write(content)
            return
        for byte in content:
            self.wfile.write(bytes([byte]))
            time.sleep(wait_seconds)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def _entry(path: str, content: Content) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": content.digest[:40], "size": content.size}
    return entry | {"lfs": {"oid": content.digest, "size": content.size, "pointerSize": 134}} if content.large else entry


def without(branches: Branches, names: Sequence[str]) -> Branches:
    """A release without some branches."""
    return {name: files for name, files in branches.items() if name not in names}
