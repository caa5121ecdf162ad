"""Requests for the labels of texts, images, recordings and series."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from regard.errors import ConfigError, DataError
from regard.serving.batched_calls import BatchedCalls
from regard.serving.verbs.verb_service import Body, CheckClient, Texts, VerbService, as_list
from regard.tasks.classification.input_predictor import InputClassifier
from regard.tasks.classification.predictor import Classification, TextClassifier

_SUFFIX = {"images": ".png", "recordings": ".wav"}  # of a file whose name is not known
_FILE_TYPE = {"images": "image/png", "recordings": "audio/wav"}
_BLANK = Classification(label="", probability=0.0, probabilities={})


class ClassifyBody(Body, frozen=True, kw_only=True):
    """A request for the labels of texts.

    Args:
        text: One text or several; a blank one has the label "" and no probabilities.
        top: Most labels of each that the answer has, the most probable first; None has all.
    """

    text: Texts
    top: int | None = None

    def inputs(self) -> Iterable[str]:
        """Return the texts."""
        return as_list(self.text)


class ClassifyFilesBody(Body, frozen=True, kw_only=True):
    """A request for the labels of images or recordings.

    Args:
        file: The bytes of one or more files in Base64.
        top: Most labels of each that the answer has.
    """

    file: Texts
    top: int | None = None

    def inputs(self) -> Iterable[str]:
        """Return nothing: files are not counted in characters."""
        return ()


class ClassifySeriesBody(Body, frozen=True, kw_only=True):
    """A request for the labels of series.

    Args:
        series: For each, rows of features like those of training, ``[length, features]``.
        top: Most labels of each that the answer has.
    """

    series: list[list[list[float]]]
    top: int | None = None

    def inputs(self) -> Iterable[str]:
        """Return nothing: numbers are not counted in characters."""
        return ()


class ClassifyService(VerbService[ClassifyBody]):
    """Classifies texts for many requests, in batches.

    Args:
        classifier: The model.
    """

    body = ClassifyBody

    def __init__(self, classifier: TextClassifier) -> None:
        self._classify = self.worker = BatchedCalls(classifier.classify_rows, len)

    def outputs(self, body: ClassifyBody, check_client: CheckClient) -> Sequence[msgspec.Struct]:
        """Classify texts."""
        _check_top(body.top)
        texts = as_list(body.text)
        filled = [text for text in texts if text.strip()]
        results = iter(self._classify(filled, check_client))
        return [_first(next(results) if text.strip() else _BLANK, body.top) for text in texts]


class ClassifyFilesService(VerbService[ClassifyFilesBody]):
    """Classifies images or recordings.

    Args:
        classifier: The model.
    """

    body = ClassifyFilesBody

    def __init__(self, classifier: InputClassifier) -> None:
        self.classifier = classifier
        self.file_type = _FILE_TYPE[classifier.unit]
        """Type of a body that is one file, and not JSON; others of its kind are read, too."""

    def outputs(
        self, body: ClassifyFilesBody, check_client: CheckClient
    ) -> Sequence[msgspec.Struct]:
        """Classify files."""
        _check_top(body.top)
        results: list[Classification] = []
        suffix = _SUFFIX[self.classifier.unit]
        for number, content in enumerate(as_list(body.file), start=1):
            check_client()
            with tempfile.NamedTemporaryFile(suffix=suffix) as file:
                file.write(_decode(content, number))
                file.flush()
                try:
                    results.append(self.classifier.classify(file.name))
                except DataError as error:
                    message = str(error).replace(file.name, f"file {number}")
                    raise DataError(message, *error.next_steps) from None
        return [_first(result, body.top) for result in results]

    def body_of(self, content: bytes) -> ClassifyFilesBody:
        """Return the request for the labels of one file."""
        return ClassifyFilesBody(file=base64.b64encode(content).decode())


class ClassifySeriesService(VerbService[ClassifySeriesBody]):
    """Classifies series.

    Args:
        classifier: The model.
    """

    body = ClassifySeriesBody

    def __init__(self, classifier: InputClassifier) -> None:
        self.classifier = classifier

    def outputs(self, body: ClassifySeriesBody, _: CheckClient) -> Sequence[msgspec.Struct]:
        """Classify series."""
        _check_top(body.top)
        arrays = [_array(rows, number) for number, rows in enumerate(body.series, start=1)]
        return [_first(result, body.top) for result in self.classifier.classify(arrays)]


def classify_service(
    classifier: TextClassifier | InputClassifier,
) -> ClassifyService | ClassifyFilesService | ClassifySeriesService:
    """Return the service of a classifier, by what it reads."""
    if isinstance(classifier, TextClassifier):
        return ClassifyService(classifier)
    reads_files = classifier.modality.reads_files
    return (ClassifyFilesService if reads_files else ClassifySeriesService)(classifier)


def _check_top(top: int | None) -> None:
    if top is not None and top < 1:
        raise ConfigError(f"`top` must be 1 or more, not {top}.")


def _first(result: Classification, top: int | None) -> Classification:
    """Return a label with the most probable ones alone."""
    probabilities = dict(list(result.probabilities.items())[:top])
    return msgspec.structs.replace(result, probabilities=probabilities)


def _decode(content: str, number: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        DataError: They are not in Base64.
    """
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise DataError(f"file {number}: not in Base64 ({error}).") from None


def _array(rows: list[list[float]], number: int) -> np.ndarray:
    """Return the rows of a series, ``[length, features]``.

    Raises:
        DataError: They are of different lengths.
    """
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"series {number}: its rows have different numbers of values.")
    return np.array(rows, dtype=np.float64)
