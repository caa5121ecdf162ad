"""What a request hears that cannot be answered, in the form of RFC 9457."""

from __future__ import annotations

import http
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from regard.errors import (
    ConfigError,
    DataError,
    RegardError,
    describe_lack_of_memory,
    did_you_mean,
)

if TYPE_CHECKING:
    from regard.serving.verbs.verb_service import Body

CLIENT_LEFT = 499
"""Status of a request whose sender has left, as nginx has it; nobody reads the answer."""
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `([^`]*)`(.*)")
_OTHER_TYPE = re.compile(r"Expected `([^`]*)`, got `([^`]*)`(?: - at `\$\.?([^`]*)`)?")
_IN_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}
"""Types of JSON, as messages of msgspec name them; others keep their names."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # before the text in files of Windows
_POSITION = re.compile(r" \(byte (\d+)\)$")


class ProblemDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an answer with an error (RFC 9457, section 3).

    Args:
        type: Kind of problem: ``about:blank``, since the status alone describes it.
        title: What the status means.
        status: The status of HTTP.
        detail: What is wrong with this request.
        hint: What to do about it.
        line: Line of the body where it cannot be read.
    """

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""
    line: int | None = None


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it so
    """A request that cannot be answered.

    Args:
        status: The status of HTTP.
        detail: What is wrong.
        hint: What to do about it.
        line: Line of the body where it cannot be read.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        hint: str = "",
        line: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.hint, self.line = status, hint, line
        self.headers = dict(headers or {})

    @property
    def sentence(self) -> str:
        """What is wrong and what to do about it, for APIs that have one text for both."""
        return "  ".join(filter(None, [str(self), self.hint]))

    @property
    def details(self) -> ProblemDetails:
        """The body of the answer."""
        is_left = self.status == CLIENT_LEFT
        return ProblemDetails(
            type="about:blank",
            title="Client Closed Request" if is_left else http.HTTPStatus(self.status).phrase,
            status=self.status,
            detail=str(self),
            hint=self.hint,
            line=self.line,
        )


def stopping_problem() -> Problem:
    """Return what a request hears that is left when the service ends."""
    return Problem(503, "the service is being stopped.", hint="Send it again later.")


def problem_of(error: Exception) -> Problem:
    """Return what a request hears of an error of the computation."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ConfigError | DataError):
        # The library puts two spaces before what to do.
        detail, _, hint = str(error).partition("  ")
        return Problem(422, detail, hint=hint)
    if (cause := describe_lack_of_memory(error)) is not None:
        return Problem(503, cause, hint="Send less at a time.")
    if isinstance(error, RegardError):
        return Problem(500, str(error))
    return Problem(500, "the service has failed.", hint="Its log says why.")


B = TypeVar("B", bound="Body")


def decode_body(content: bytes, body: type[B]) -> B:
    """Read the body of a request.

    Args:
        content: JSON.
        body: What it says.

    Returns:
        It.

    Raises:
        Problem: It is not JSON, or does not say this.
    """  # noqa: DOC501 - _misfit makes it
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        return msgspec.json.decode(content, type=body)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        position = _POSITION.search(str(error))
        before = content if position is None else content[: int(position[1])]
        what = "an empty body" if not content.strip() else str(error)
        if "UTF-8" in what:
            raise Problem(400, "the body is not in UTF-8, as JSON is.") from None
        raise Problem(
            400,
            f"the body is not JSON: {what}",
            hint='Send an object such as {"text": "..."}.',
            line=before.count(b"\n") + 1,
        ) from None


def _misfit(message: str, body: type[Body]) -> Problem:
    """Return the problem of a body that is JSON, and something else than was expected."""
    names = [field.encode_name for field in msgspec.structs.fields(body)]
    fields = f"Fields: {', '.join(names)}."
    unknown = _UNKNOWN_FIELD.match(message)
    if unknown is None:
        return Problem(422, f"{_describe_type(message)}.", hint=fields)
    hint = f"{did_you_mean(unknown[1], names).strip()}  {fields}".strip()
    return Problem(422, f"unknown field {unknown[1]}{unknown[2]}.", hint=hint)


def _describe_type(message: str) -> str:
    """Return a message about a value of another type in words; any other one unchanged.

    >>> _describe_type("Expected `str | array`, got `int` - at `$.text`")
    'text: a text or a list was expected, not a whole number'
    """
    other_type = _OTHER_TYPE.fullmatch(message)
    if other_type is None:
        return message
    expected, given = (
        " or ".join(_IN_WORDS.get(name, name) for name in names.split(" | "))
        for names in other_type.group(1, 2)
    )
    return f"{other_type[3] or 'the body'}: {expected} was expected, not {given}"
