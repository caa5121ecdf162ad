"""Throughput and latency of ``regard serve`` next to other services of the same model.

    python benchmarks/serving.py ende sentences.txt --clients 1,8 --seconds 15
    python benchmarks/serving.py tales prompts.txt --verb generate --clients 1,8

Services answer the same requests, each in a process of its own, in turn:

- regard: ``regard serve``
- ctranslate2: Starlette around ``ctranslate2.Translator`` with a worker for each core, of a
  translator that ``regard export --to ctranslate2`` takes
- transformers: Starlette around ``generate`` with a lock, of a language model that
  ``regard export`` takes
- one at a time: the same around ``regard.load``

In the load "alike" each client sends one small request after the other: a sentence, or a prompt
that is continued by 32 tokens. In "mixed" one client sends large ones, again and again: 64
sentences, or a prompt that is continued by 512 tokens; the figures are those of the small requests
of the others. Printed are small requests a second, and the medians and 95th percentiles of their
seconds; the ratios are over the medians of all rounds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

_SENTENCES, _TOKENS, _MANY_TOKENS = 64, 32, 512  # of large, small and large requests
_JSON = {"Content-Type": "application/json"}
Translate = Callable[[dict[str, Any]], list[str]]


class Load(NamedTuple):
    """What clients measured of a service.

    Args:
        rate: Small requests a second.
        median: Seconds of such a request.
        slow: The 95th percentile.
    """

    rate: float
    median: float
    slow: float


def small_body(verb: str, texts: Iterator[str], beam: int) -> dict[str, Any]:
    """Return a request for one sentence, or for a few tokens."""
    if verb == "translate":
        return {"text": next(texts), "beam": beam}
    return {"text": next(texts), "max_tokens": _TOKENS, "seed": 1}


def large_body(verb: str, texts: Iterator[str], beam: int) -> dict[str, Any]:
    """Return a request for many sentences, or for many tokens."""
    if verb == "translate":
        return {"text": list(islice(texts, _SENTENCES)), "beam": beam}
    return {"text": next(texts), "max_tokens": _MANY_TOKENS, "seed": 1}


def send(connection: http.client.HTTPConnection, verb: str, body: dict[str, Any]) -> None:
    """Send a request, and read its answer."""
    connection.request("POST", f"/v1/{verb}", json.dumps(body), _JSON)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {answer!r}")


def measure(
    address: str,
    verb: str,
    texts: Sequence[str],
    *,
    clients: int,
    seconds: float,
    beam: int,
    is_mixed: bool,
) -> Load:
    """Let clients send requests for some seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    def work(number: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=300)
        own = islice(cycle(texts), 97 * number, None)
        is_large = is_mixed and number == 0
        while time.perf_counter() < end:
            body = (large_body if is_large else small_body)(verb, own, beam)
            start = time.perf_counter()
            send(connection, verb, body)
            if not is_large:
                times.append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    return Load(len(times) / seconds, statistics.median(times), times[int(0.95 * len(times))])


@contextmanager
def running(command: Sequence[str], address: str, verb: str) -> Iterator[None]:
    """Run a service until the body is done."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while not answers(address, verb):
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
                time.sleep(0.2)
            yield
        finally:
            process.terminate()


def answers(address: str, verb: str) -> bool:
    """Return whether a service answers; its first request warms it."""
    try:
        connection = http.client.HTTPConnection(address, timeout=300)
        send(connection, verb, small_body(verb, iter(["A first sentence."]), 1))
    except OSError:
        return False
    return True


def by_ctranslate2(folder: str, precision: str) -> Translate:
    """Return what translates by an exported folder, in as many threads as there are cores."""
    import ctranslate2
    from tokenizers import Tokenizer

    translator = ctranslate2.Translator(
        folder, inter_threads=os.cpu_count() or 1, intra_threads=1, compute_type=precision
    )
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")

    def translate(body: dict[str, Any]) -> list[str]:
        texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
        sources = [tokenizer.encode(text).tokens for text in texts]
        longest = 2 * max(map(len, sources)) + 10  # as regard's own search has it
        results = translator.translate_batch(
            sources, beam_size=body["beam"], max_batch_size=32, max_decoding_length=longest
        )
        ids = [[tokenizer.token_to_id(token) for token in best.hypotheses[0]] for best in results]
        return tokenizer.decode_batch(ids)

    return translate


def by_transformers(folder: str, precision: str) -> Translate:
    """Return what continues texts by an exported folder, one request after the other."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    tokenizer, lock = AutoTokenizer.from_pretrained(folder), threading.Lock()

    def generate(body: dict[str, Any]) -> list[str]:
        inputs = tokenizer(body["text"], return_tensors="pt")
        num = body["max_tokens"]
        with lock:
            ids = model.generate(**inputs, do_sample=True, max_new_tokens=num, min_new_tokens=num)
        return tokenizer.batch_decode(ids)

    return generate


def one_at_a_time(folder: str, precision: str) -> Translate:
    """Return what answers by regard, one request after the other."""
    import regard

    model, lock = regard.load(folder, precision=precision), threading.Lock()

    def answer(body: dict[str, Any]) -> list[str]:
        options = {name: value for name, value in body.items() if name != "text"}
        with lock:
            outputs = getattr(model, model.verb)(body["text"], **options)
        return [str(outputs)]

    return answer


PEERS = {
    "ctranslate2": by_ctranslate2,
    "transformers": by_transformers,
    "one at a time": one_at_a_time,
}
EXPORTS = {"ctranslate2": "ctranslate2", "transformers": "hf"}
"""The format that a peer reads; the others read the folder itself."""


def serve_peer(name: str, folder: str, precision: str, verb: str, port: int) -> None:
    """Serve a peer, as one would write it in an hour."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    compute = PEERS[name](folder, precision)

    async def answer(request):
        outputs = await run_in_threadpool(compute, await request.json())
        return JSONResponse({"outputs": [{"text": text} for text in outputs]})

    service = Starlette(routes=[Route(f"/v1/{verb}", answer, methods=["POST"])])
    uvicorn.run(service, port=port, log_level="critical", access_log=False)


def commands_of(options: argparse.Namespace, verb: str, folder: str, port: int) -> dict[str, list]:
    """Return the commands that start the services; what peers read is exported to a folder."""
    regard = [sys.executable, "-m", "regard"]
    last = ["--precision", options.precision, "--port", str(port)]
    commands = {"regard": [*regard, "serve", options.model, "--max-requests", "1000", *last]}
    unused = "transformers" if verb == "translate" else "ctranslate2"
    for name in PEERS.keys() - {unused}:
        read, path = options.model, Path(folder, name.replace(" ", "-"))
        if name in EXPORTS:
            read = str(path)
            if not path.exists():
                words = ["export", options.model, "--to", EXPORTS[name], "-o", read]
                subprocess.run([*regard, *words], check=True, stdout=subprocess.DEVNULL)
        peer = [sys.executable, __file__, read, "-", "--peer", name, "--verb", verb]
        commands[name] = [*peer, *last]
    return commands


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def main() -> None:
    """Measure all services in turn, and print the ratios of their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a translator or a language model")
    parser.add_argument("texts", help="file of sentences or prompts, one a line")
    parser.add_argument("--clients", default="1,8")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16", "int8"])
    parser.add_argument("--verb", choices=["translate", "generate"], default="translate")
    parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    verb = options.verb
    if options.peer is not None:
        serve_peer(options.peer, options.model, options.precision, verb, options.port)
        return
    lines = Path(options.texts).read_text(encoding="utf-8").splitlines()
    texts = [line.partition("\t")[0] for line in lines if line.strip()]
    loads = [(int(number), False) for number in options.clients.split(",")]
    loads.append((loads[-1][0], True))
    results: dict[tuple[int, bool], dict[str, list[Load]]] = {load: {} for load in loads}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            port = free_port()
            address = f"127.0.0.1:{port}"
            for name, command in commands_of(options, verb, folder, port).items():
                with running(command, address, verb):
                    for clients, is_mixed in loads:
                        load = measure(
                            address,
                            verb,
                            texts,
                            clients=clients,
                            seconds=options.seconds,
                            beam=options.beam,
                            is_mixed=is_mixed,
                        )
                        results[clients, is_mixed].setdefault(name, []).append(load)
    for (clients, is_mixed), of_load in results.items():
        print(f"{clients} clients, {'mixed' if is_mixed else 'alike'}")
        print_medians(of_load)


def print_medians(of_load: dict[str, list[Load]]) -> None:
    """Print the medians of all rounds of a load, and the ratios of regard to each."""
    medians = {
        name: Load(*map(statistics.median, zip(*rounds, strict=True)))
        for name, rounds in of_load.items()
    }
    own = medians["regard"]
    for name, (rate, median, slow) in medians.items():
        print(
            f"  {name:14s} {rate:7.1f} requests/s   {1000 * median:6.0f} ms, "
            f"95 % within {1000 * slow:6.0f} ms   regard: {own.rate / rate:.2f}x the rate, "
            f"{own.slow / slow:.2f}x the slow time"
        )


if __name__ == "__main__":
    main()
