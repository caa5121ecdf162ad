"""Throughput and latency of ``regard serve`` next to two other services of the same translator.

    python benchmarks/serving.py ende sentences.txt --clients 1,8 --seconds 15

The model, without a copy mechanism, is exported to CTranslate2. Three services answer the same
requests, each in a process of its own, in turn:

- regard: ``regard serve``
- ctranslate2: a service of Starlette around ``ctranslate2.Translator``, a worker for each core, as
  LibreTranslate has one around the same library
- one at a time: the same service around ``regard.load``, with a lock

In the load "alike" each client sends one sentence after the other. In "mixed" one client sends 64
sentences at once, again and again, and the times are those of the others, who send one each.
Printed are sentences a second, and the medians and 95th percentiles of the seconds of a request;
the ratios are over the medians of all rounds.
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
from itertools import count, cycle, islice
from pathlib import Path
from typing import NamedTuple

_LARGE = 64  # sentences of the large requests
_JSON = {"Content-Type": "application/json"}


class Load(NamedTuple):
    """What clients measured of a service.

    Args:
        rate: Sentences of single requests, a second.
        median: Seconds of such a request.
        slow: The 95th percentile.
    """

    rate: float
    median: float
    slow: float


def send(connection: http.client.HTTPConnection, text: str | list[str], beam: int) -> int:
    """Send a request, and return the number of its translations."""
    connection.request("POST", "/v1/translate", json.dumps({"text": text, "beam": beam}), _JSON)
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise SystemExit(f"{response.status}: {answer}")
    return len(answer["outputs"])


def measure(
    address: str, sentences: Sequence[str], *, clients: int, seconds: float, beam: int, mixed: bool
) -> Load:
    """Let clients send sentences for some seconds."""
    end = time.perf_counter() + seconds
    times: list[float] = []

    def work(first: int, size: int) -> None:
        connection = http.client.HTTPConnection(address, timeout=300)
        texts = islice(cycle(sentences), first, None)
        while time.perf_counter() < end:
            part = list(islice(texts, size))
            start = time.perf_counter()
            send(connection, part[0] if size == 1 else part, beam)
            if size == 1:
                times.append(time.perf_counter() - start)
        connection.close()

    sizes = [_LARGE if mixed and number == 0 else 1 for number in range(clients)]
    threads = [
        threading.Thread(target=work, args=(97 * number, size)) for number, size in enumerate(sizes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    return Load(len(times) / seconds, statistics.median(times), times[int(0.95 * len(times))])


@contextmanager
def running(command: Sequence[str], address: str) -> Iterator[None]:
    """Run a service until the body is done."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in count():
                if process.poll() is not None:
                    raise SystemExit(f"{' '.join(command)}: ended with {process.returncode}")
                try:
                    connection = http.client.HTTPConnection(address, timeout=300)
                    send(connection, "A first sentence.", 1)
                    break
                except OSError:
                    time.sleep(0.2)
            yield
        finally:
            process.terminate()


def translate_by_ctranslate2(folder: str, precision: str) -> Callable[[list[str], int], list[str]]:
    """Return what translates by an exported folder, in as many threads as there are cores."""
    import ctranslate2
    from tokenizers import Tokenizer

    workers = os.cpu_count() or 1
    translator = ctranslate2.Translator(
        folder, inter_threads=workers, intra_threads=1, compute_type=precision
    )
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")

    def translate(texts: list[str], beam: int) -> list[str]:
        sources = [tokenizer.encode(text).tokens for text in texts]
        results = translator.translate_batch(sources, beam_size=beam, max_batch_size=32)
        ids = [[tokenizer.token_to_id(token) for token in best.hypotheses[0]] for best in results]
        return tokenizer.decode_batch(ids)

    return translate


def translate_one_at_a_time(folder: str, precision: str) -> Callable[[list[str], int], list[str]]:
    """Return what translates by regard, one request after the other."""
    import regard

    translator, lock = regard.load(folder, precision=precision), threading.Lock()

    def translate(texts: list[str], beam: int) -> list[str]:
        with lock:
            return translator.translate(texts, beam=beam)

    return translate


PEERS = {"ctranslate2": translate_by_ctranslate2, "one at a time": translate_one_at_a_time}


def serve_peer(name: str, folder: str, precision: str, port: int) -> None:
    """Serve a peer, as one would write it in an hour."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    translate = PEERS[name](folder, precision)

    async def answer(request):
        body = await request.json()
        texts = body["text"] if isinstance(body["text"], list) else [body["text"]]
        outputs = await run_in_threadpool(translate, texts, body["beam"])
        return JSONResponse({"outputs": [{"text": text} for text in outputs]})

    service = Starlette(routes=[Route("/v1/translate", answer, methods=["POST"])])
    uvicorn.run(service, port=port, log_level="critical", access_log=False)


def free_port() -> int:
    """Return a port that nobody listens to."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def commands(model: str, exported: str, precision: str, port: int) -> dict[str, list[str]]:
    """Return the commands that start the services."""
    own = [sys.executable, __file__]
    regard = [sys.executable, "-m", "regard", "serve", model, "--port", str(port)]
    peers = {
        name: [*own, exported if name == "ctranslate2" else model, "-", "--peer", name]
        for name in PEERS
    }
    options = ["--precision", precision, "--port", str(port)]
    return {
        "regard": [*regard, "--precision", precision, "--max-requests", "1000"],
        **{name: [*command, *options] for name, command in peers.items()},
    }


def main() -> None:
    """Measure all services in turn, and print the ratios of their medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a translator without a copy mechanism")
    parser.add_argument("sentences", help="file of sentences, one a line")
    parser.add_argument("--clients", default="1,8")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--precision", default="float32", choices=["float32", "int8"])
    parser.add_argument("--peer", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer is not None:
        serve_peer(options.peer, options.model, options.precision, options.port)
        return
    sentences = Path(options.sentences).read_text(encoding="utf-8").splitlines()
    sentences = [line.partition("\t")[0] for line in sentences if line.strip()]
    loads = [(int(number), False) for number in options.clients.split(",")] + [(8, True)]
    results: dict[tuple[int, bool], dict[str, list[Load]]] = {load: {} for load in loads}
    with tempfile.TemporaryDirectory() as folder:
        exported = f"{folder}/ct2"
        words = ["export", options.model, "--to", "ctranslate2", "-o", exported]
        subprocess.run([sys.executable, "-m", "regard", *words], check=True)
        for _ in range(options.rounds):
            port = free_port()
            all_commands = commands(options.model, exported, options.precision, port)
            for name, command in all_commands.items():
                address = f"127.0.0.1:{port}"
                with running(command, address):
                    for clients, mixed in loads:
                        load = measure(
                            address,
                            sentences,
                            clients=clients,
                            seconds=options.seconds,
                            beam=options.beam,
                            mixed=mixed,
                        )
                        results[clients, mixed].setdefault(name, []).append(load)
    for (clients, mixed), of_load in results.items():
        kind = f"{clients} clients, {'mixed' if mixed else 'alike'}"
        medians = {
            name: Load(*map(statistics.median, zip(*rounds, strict=True)))
            for name, rounds in of_load.items()
        }
        for name, (rate, median, slow) in medians.items():
            own = medians["regard"]
            print(
                f"{kind:18s} {name:14s} {rate:7.1f} sentences/s   "
                f"{1000 * median:6.0f} ms, 95 % within {1000 * slow:6.0f} ms   "
                f"regard: {own.rate / rate:.2f}x the rate, {own.slow / slow:.2f}x the slow time"
            )


if __name__ == "__main__":
    main()
