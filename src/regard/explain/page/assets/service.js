// What the page asks of the service that it comes from, and what that says when it cannot.

import { count } from "./words.js";

// Of the page, also where the service is below a path of another one, with or without a slash.
const BASE = location.href.replace(/[?#][^]*$/, "").replace(/\/?$/, "/");

/** What went wrong, in words for the reader. */
export class Problem extends Error {
  constructor(detail, hint = "", canRetry = false) {
    super(detail);
    Object.assign(this, { hint, canRetry });
  }
}

/** Post a body as JSON; return the JSON of the answer. */
export async function post(path, body, signal) {
  let response;
  try {
    response = await fetch(BASE + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      cache: "no-store",
      signal,
    });
  } catch (error) {
    signal.throwIfAborted();
    throw new Problem("The service does not answer.", "Is it still running?", true);
  }
  if (!response.ok) throw await readProblem(response, signal);
  try {
    return await response.json();
  } catch (error) {
    signal.throwIfAborted();
    throw new Problem("The answer of the service broke off, or is not JSON.", "", true);
  }
}

/** Read a problem as RFC 9457 has it, or what a server between here and the service says. */
async function readProblem(response, signal) {
  const { status, statusText, headers } = response;
  const isJson = /\bjson\b/.test(headers.get("Content-Type") ?? "");
  const problem = (isJson && (await response.json().catch(() => null))) || {};
  signal.throwIfAborted();
  const isBusy = status === 429 || status === 503;
  const detail =
    problem.detail ||
    problem.title ||
    (isBusy
      ? "The service is busy."
      : ["The service answered with status", status, statusText].join(" ").trim() + ".");
  const wait = isBusy ? waitText(headers.get("Retry-After")) : "";
  return new Problem(
    detail,
    [problem.hint, wait].filter(Boolean).join("\n"),
    isBusy || status >= 500,
  );
}

/** Return when to ask again, from a header that has seconds or a date. */
function waitText(text) {
  if (!text) return "Ask again in a moment.";
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return seconds >= 1 ? `Ask again in ${count(Math.ceil(seconds), "second")}.` : "Ask again.";
}

/** Return the command that asks the service what the box would. */
export function command({ verb, curl, examples }) {
  const texts =
    verb === "answer"
      ? { question: examples[0] || "…", context: "…" }
      : { text: examples[0] || "…" };
  const quotedBody = JSON.stringify(texts).replaceAll("'", "'\\''");
  const body = curl || `-H 'Content-Type: application/json' -d '${quotedBody}'`;
  return `curl ${BASE}v1/${verb} ${body}`;
}
