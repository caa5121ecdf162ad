"""What the body of a request says that it is, by its headers."""

from __future__ import annotations

from starlette.requests import Request

from regard.serving.problems import Problem


def content_type(request: Request) -> str:
    """Return the type of a body in lower case, without its parameters; empty where it has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request, *, or_file: str = "") -> None:
    """Check that a body is said to be JSON.

    Args:
        request: The request.
        or_file: Type of the file that a body may be, too, such as ``image/png``; empty where it may
            not.

    Raises:
        Problem: It is not.
    """
    kind = content_type(request)
    if kind == "application/json":
        return
    choices = " or ".join(filter(None, ["application/json", or_file]))
    hint = "With curl: --json, or -H 'Content-Type: application/json'."
    if or_file:
        hint = f"With curl: --data-binary @FILE -H 'Content-Type: {or_file}'."
    raise Problem(415, f"the body is {kind or 'of no type'}, not {choices}.", hint=hint)


def require_plain(request: Request) -> None:
    """Raise Problem where a body is said to be compressed."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Problem(
            415,
            f"Content-Encoding: {encoding} is not read.",
            hint="Send the body as it is.",
            headers={"Accept-Encoding": "identity"},
        )
