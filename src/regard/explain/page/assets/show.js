// An explanation on the page: its header, its panels, and what they do when something is chosen.

import { alignmentPanel } from "./alignment_panel.js";
import { architecturePanel } from "./architecture_panel.js";
import { readTheme } from "./colors.js";
import { el } from "./elements.js";
import { Explained } from "./explained.js";
import { pageAsJson, pageAsPng, pageAsSvg, save } from "./export.js";
import { headsPanel, openKind, strongestHead } from "./heads_panel.js";
import { influencePanel } from "./influence_panel.js";
import { layersPanel } from "./layers_panel.js";
import { oneHeadPanel } from "./one_head_panel.js";
import { unpackPayload } from "./payload.js";
import { sentencePanel } from "./sentence_panel.js";
import { change, onChange, redraw, startView, view } from "./view.js";
import { whyPanel } from "./why_panel.js";

const CAVEAT =
  "Attention shows where information may flow, not why. A head’s effect here is the change in ";
const DIAGRAM_FRAME = 50; // pixels around the picture in its panel
const PANELS = ["why", "alignment", "heads", "one-head", "layers", "architecture"]; // left, right, ...
const HELP = [
  [
    "Words",
    "Click a word of the output to explain it, a word of the input to follow it. Arrow keys move along a line, Enter chooses.",
  ],
  ["Underline", "The thicker the line under an output, the more probable it was."],
  [
    "Colors",
    "Magnitudes run through one scale from pale to dark, or dark to light on a dark page. Signed scores are indigo where they speak for the output, orange where they speak against it.",
  ],
  [
    "Hatching",
    "The pattern of the attention does not allow these pairs: they were never computed.",
  ],
  [
    "Effect of a head",
    "How the outputs change when the head is removed, measured; where they have probabilities, their logarithm.",
  ],
  [
    "Faithfulness",
    "Comprehensiveness: what removing the highest scores loses. Sufficiency: what keeping them alone loses. Tau: agreement with leaving each word out. Each is next to random scores.",
  ],
  [
    "Training rows",
    "Which rows of the training data an output owes most to: by how many nats its log-probability would change, by estimate, had training left a row out.",
  ],
  [
    "Files",
    "SVG and PNG are exactly what is shown; JSON is the whole explanation.",
  ],
];

/** Read the colors of the page, now and whenever the reader's setting changes. */
export function watchTheme() {
  readTheme();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readTheme();
    redraw(["theme"]);
  });
}

/** Open the data of an explanation, with the maps that are shown first. */
export async function openExplanation(payload) {
  const explained = new Explained(await unpackPayload(payload));
  await openKind(explained, firstKind(explained));
  return explained;
}

function firstKind({ kinds }) {
  return kinds.includes("cross") ? "cross" : (kinds[0] ?? "");
}

/** Show an explanation in place of what an element has. */
export function showExplanation(explained, root) {
  const { maps, document: explanation, names } = explained;
  startView({ method: names[0] ?? "" });
  if (maps.length) {
    view.kind = firstKind(explained);
    Object.assign(view, strongestHead(explained, view.kind));
    view.query = explained.queryOf(maps[view.layer], view.output) ?? 0;
  }
  const panels = [
    names.length ? whyPanel(explained) : null,
    names.length ? alignmentPanel(explained) : null,
    maps.length ? headsPanel(explained) : null,
    maps.length ? oneHeadPanel(explained) : null,
    explained.outputs.length && (explanation.lens.length || explanation.encoder_lens.length)
      ? layersPanel(explained)
      : null,
    explanation.model.picture || explanation.model.diagram ? architecturePanel(explained) : null,
  ].filter(Boolean);
  root.replaceChildren(
    sentencePanel(explained),
    notes(explanation.notes),
    el(
      "div",
      { class: "panels" },
      ...[1, 0].map((odd) =>
        el(
          "div",
          { class: "stack" },
          ...panels.filter((panel) => PANELS.indexOf(panel.id) % 2 !== odd),
        ),
      ),
    ),
    ...(explanation.influence ? [influencePanel(explained)] : []),
    el("footer", {
      text: `${CAVEAT}${explained.hasProbabilities ? "log-probability" : "the outputs"} when it is removed.`,
    }),
  );
  redraw(["theme"]);
  onChange((changed) => follow(explained, changed));
  return balance(root);
}

/**
 * Put the diagram, which nothing else refers to, into the shorter column, or below both where it is
 * wider than one: smaller, its texts could not be read.
 */
async function balance(root) {
  for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame); // until all is laid out
  const [left, right] = root.querySelectorAll(".stack");
  const diagram = root.querySelector("#architecture");
  if (!diagram) return;
  const picture = diagram.querySelector("img");
  await picture?.decode();
  diagram.remove();
  if (picture && picture.naturalWidth > left.clientWidth - DIAGRAM_FRAME) {
    root.querySelector(".panels").after(diagram);
    return;
  }
  (left.offsetHeight <= right.offsetHeight ? left : right).append(diagram);
}

/** Let what is shown follow what was chosen. */
function follow(explained, changed) {
  const map = explained.maps[view.layer];
  if (!map) return;
  if (changed.includes("output") || changed.includes("kind")) {
    const query = explained.queryOf(map, view.output) ?? (changed.includes("kind") ? 0 : null);
    if (query !== null && query !== view.query) change({ query, key: null });
  }
  if (changed.includes("feature") && view.feature !== null) {
    const key = Math.floor((view.feature - explained.keyStart(map)) / map.tile);
    if (key >= 0 && key < map.keys && key !== view.key) change({ key });
  }
}

/** The header, with entries of its own in the help; its tools save what it was last given. */
export class Header {
  constructor({ name }, entries) {
    const file = `${name || "model"}-explained`;
    const help = el(
      "dialog",
      { "aria-label": "Help" },
      el(
        "dl",
        {},
        ...[...HELP, ...entries].flatMap(([term, text]) => [el("dt", { text: term }), el("dd", { text })]),
      ),
      el("button", { class: "tool", text: "Close", on: { click: () => help.close() } }),
    );
    const tool = (text, title, run) =>
      el("button", {
        type: "button",
        class: "tool",
        text,
        title,
        on: { click: run },
      });
    this.tools = [
      tool("SVG", "Save what is shown as SVG", async () =>
        save(await pageAsSvg(), `${file}.svg`, "image/svg+xml"),
      ),
      tool("PNG", "Save what is shown as PNG", async () =>
        save(await pageAsPng(), `${file}.png`, "image/png"),
      ),
      tool("JSON", "Save the explanation as JSON", async () =>
        save(await pageAsJson(this.explained), `${file}.json`, "application/json"),
      ),
    ];
    this.facts = el("p", { class: "facts" });
    this.root = el(
      "header",
      {},
      el(
        "h1",
        {},
        el("span", { class: "brand", text: "regard" }),
        el("span", { dir: "auto", text: name }),
      ),
      this.facts,
      el(
        "div",
        { class: "toolbar" },
        ...this.tools,
        tool("?", "Help", () => help.showModal()),
      ),
      help,
    );
  }

  /** Say what the model is, and offer to save an explanation; null where there is none yet. */
  show({ task, family, num_parameters: number, hash, explained: day, search }, explained) {
    this.explained = explained;
    for (const tool of this.tools) tool.hidden = explained === null;
    this.facts.textContent = [
      task.replaceAll("_", " "),
      family,
      size(number),
      hash ? `sha ${hash}` : "",
      day ? `explained ${day}` : "",
      search,
    ]
      .filter(Boolean)
      .join(" · ");
  }
}

function size(number) {
  if (number >= 1e9) return `${(number / 1e9).toFixed(1)} B`;
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  return number >= 1e3 ? `${(number / 1e3).toFixed(1)} k` : `${number}`;
}

function notes(texts) {
  return el(
    "ul",
    { class: "notes", hidden: texts.length === 0 },
    ...texts.map((text) => el("li", { dir: "auto", text })),
  );
}
