"""``regard serve``: a model as an HTTP service."""

from __future__ import annotations

import os
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote, urlsplit

from cyclopts import Parameter

from regard.cli.failures import INTERRUPTED
from regard.cli.garbage import collect_as_usual
from regard.cli.model_options import WRITING_DEFAULTS, WritingOptions
from regard.cli.outputs import as_json, print_note
from regard.cli.parameters import Flag, Name
from regard.errors import ConfigError
from regard.serving.limits import ServiceLimits
from regard.settings.validation import require_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

    from regard.serving.service import AnsweredRequest
    from regard.tasks import Predictor

_LIMITS = ServiceLimits()
_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_MOST_EXAMPLES = 3  # that the page has room for
_Examples = Parameter(name="--example", negative=(), show_default=False)
_QUIET_PATHS = ("/healthz", "/readyz", "/metrics")  # asked for every few seconds


@Parameter(name="*")
@dataclass(frozen=True)
class LimitOptions:
    """How much the service takes.

    Attributes:
        max_characters: Most characters of all texts of a request.
        max_explained: Most characters of a text that is explained.
        max_tokens: Most tokens of an output that a request may ask for.
        max_hypotheses: Widest beam, and most continuations of a text.
        max_requests: Most requests at a time; more are answered with status 429.
    """

    max_characters: int = _LIMITS.max_characters
    max_explained: int = _LIMITS.max_explained
    max_tokens: int = _LIMITS.max_tokens
    max_hypotheses: int = _LIMITS.max_hypotheses
    max_requests: int = _LIMITS.max_requests


_LIMIT_DEFAULTS = LimitOptions()


@Parameter(name="*")
@dataclass(frozen=True)
class AddressOptions:
    """Where the service is reached.

    Attributes:
        host: Address on which it listens: 0.0.0.0 for all of this machine.
        port: Its port; 0 takes a free one.
        cors: Web page that may use it, such as https://example.org; may be repeated.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    cors: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = ()


_ADDRESS_DEFAULTS = AddressOptions()


def serve(
    model: Annotated[str, Name],
    /,
    *,
    address: AddressOptions = _ADDRESS_DEFAULTS,
    verb: Literal["translate", "summarize", "answer"] | None = None,
    lang: str | None = None,
    proposed: Annotated[tuple[str, ...], _Examples] = (),
    limits: LimitOptions = _LIMIT_DEFAULTS,
    compute: WritingOptions = WRITING_DEFAULTS,
    json: Annotated[bool, Flag] = False,
) -> None:
    """Serve a model: a page that explains it at /, its API at /v1.

    It answers until it is stopped by Ctrl-C or SIGTERM, and finishes what it has begun.

    Parameters
    ----------
    model
        Folder of a trained model.
    address
        Where the service is reached.
    verb
        What a published encoder-decoder does, which its folder does not say: translate by default.
    lang
        Languages of a translator, such as en-de; the default is those of its training.
    proposed
        Text that the page proposes; may be repeated, three times at most.
    limits
        How much the service takes.
    compute
        What computes the outputs.
    json
        One JSON object a line for the start, every request and the end.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"a service needs {', '.join(missing)}.  Install: pip install 'regard[serve]'"
        )
    require_range("--port", address.port, 0, 65_535)
    if len(proposed) > _MOST_EXAMPLES:
        raise ConfigError(f"--example: {_MOST_EXAMPLES} at most, not {len(proposed)}.")
    _check_pages(address.cors)
    _check_languages(lang)
    service_limits = _limits(limits)
    predictor = _open(model, verb, lang, compute)
    _check_use(predictor, lang, proposed)

    from regard.explain.explanation import ModelFacts
    from regard.runs.information import hash_weights
    from regard.serving.server import run_service
    from regard.serving.service import build_service

    # Of a request: its answer says the same, and no text of anybody belongs in a log.
    warnings.simplefilter("ignore", UserWarning)
    is_local = address.host == "localhost" or _is_loopback(address.host)
    service = build_service(
        predictor,
        facts=ModelFacts(Path(model).resolve().name, hash_weights(model)),
        limits=service_limits,
        languages=lang or "",
        examples=proposed,
        hosts=(*_LOOPBACK_NAMES, address.host) if is_local else (),
        origins=address.cors,
        on_answer=_print_as_json if json else _print_answer,
    )

    def on_start(url: str) -> None:
        if not is_local:
            print_note(
                f"who reaches {address.host} can use the model.  Keys and encryption "
                "are the work of a proxy in front of it."
            )
        _print_start(service, url, json=json)

    is_finished = run_service(service, host=address.host, port=address.port, on_start=on_start)
    print(as_json({"event": "stopped"}) if json else "Stopped", flush=True)
    if service.state.model.is_computing:  # for nobody: Python would wait for these threads
        os._exit(INTERRUPTED)
    if not is_finished:
        sys.exit(INTERRUPTED)


def _limits(options: LimitOptions) -> ServiceLimits:
    """Return the limits of the service, each of 1 or more."""
    values = asdict(options)
    for name, value in values.items():
        require_range(f"--{name.replace('_', '-')}", value, 1, 10**9)
    return ServiceLimits(**values)


def _check_languages(lang: str | None) -> None:
    """Raise ConfigError where languages are set, and are not codes such as ``en-de``."""
    from regard.data.languages import require_pair

    source, _, targets = (lang or "").partition("-")
    for target in targets.split(","):
        require_pair(f"{source}-{target}" if lang else "")


def _check_pages(pages: Sequence[str]) -> None:
    """Raise ConfigError where a page of others has no scheme, or more than scheme and host."""
    for page in pages:
        parts = urlsplit(page)
        is_origin = parts.scheme in ("http", "https") and page == f"{parts.scheme}://{parts.netloc}"
        if page != "*" and not (is_origin and parts.netloc):
            raise ConfigError(
                f"--cors {page}: scheme and host are expected, such as https://example.org, or * "
                "for all."
            )


def _check_use(predictor: Predictor, lang: str | None, examples: Sequence[str]) -> None:
    """Raise ConfigError where an option is of no use for a model."""
    from regard.serving.running_model import explains_text
    from regard.tasks.translation.languages import languages_of
    from regard.tasks.translation.predictor import Translator

    task = predictor.config.task
    if examples and not explains_text(predictor):
        raise ConfigError(f"--example: a model for {task} has no output for a text to explain.")
    if not lang:
        return
    if not isinstance(predictor, Translator):
        raise ConfigError(f"--lang {lang}: a model for {task} has no languages.")
    languages = languages_of(predictor, lang)
    tags = {} if languages is None else languages.tags
    missing = [code for code, tag in tags.items() if not tag]
    if len(tags) > 1 and missing:
        raise ConfigError(
            f"--lang {lang}: the model has no tag for {', '.join(missing)}, with which a text says "
            "in which language it is to be written."
        )


def _open(model: str, verb: str | None, lang: str | None, compute: WritingOptions) -> Predictor:
    """Return the model of a folder; raise ConfigError where it is not for a verb."""
    from regard.tasks.opening import open_model, set_precision
    from regard.tasks.published_task import task_of_verb

    task = task_of_verb(model, verb, lang)
    predictor = open_model(model, compute.device, task=task, threads=compute.threads)
    collect_as_usual()
    if verb is not None and predictor.verb != verb:
        raise ConfigError(f"{model}: does not {verb}: it is a model for {predictor.config.task}.")
    set_precision(predictor, compute.precision)
    return predictor


def _is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _print_start(service: Starlette, url: str, *, json: bool) -> None:
    """Say what is served, and where."""
    from starlette.routing import Route

    from regard.serving.example_request import example_request
    from regard.serving.running_model import RunningModel

    model: RunningModel = service.state.model
    verb, task = model.predictor.verb, model.predictor.config.task
    routes = [route for route in service.routes if isinstance(route, Route)]
    paths = [route.path for route in routes if route.include_in_schema]
    if json:
        event = {"event": "serving", "url": url, "model": model.id, "verb": verb, "paths": paths}
        print(as_json(event), flush=True)
        return
    more_paths = [path for path in paths if path not in ("/", f"/v1/{verb}", "/explain")]
    print(f"Serving {model.id}   {task}", flush=True)
    print(f"Page    {url}/")
    print(f"API     curl {example_request(model.predictor, model.languages)} {url}/v1/{verb}")
    print(f"More    {' '.join(more_paths)}")
    print("Stop    Ctrl-C", flush=True)


def _print_answer(answer: AnsweredRequest) -> None:
    """Print a request, without what it said, on standard error."""
    if answer.path not in _QUIET_PATHS:
        with suppress(OSError):  # nobody reads the log, or the disk is full: answers continue
            print(
                f"{time.strftime('%H:%M:%S')} {answer.method} {quote(answer.path)} {answer.status} "
                f"{1000 * answer.seconds:,.0f} ms",
                file=sys.stderr,
            )


def _print_as_json(answer: AnsweredRequest) -> None:
    """Print a request, without what it said, as JSON."""
    fields = {**answer._asdict(), "ms": round(1000 * answer.seconds)}
    fields.pop("seconds")
    with suppress(OSError):
        print(as_json({"event": "answered", **fields}), flush=True)
