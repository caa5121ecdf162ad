// Panel 5: layers. What the model would say if it ended after each of them.

import { color, textColor } from "./colors.js";
import { choice, el, keepFocus } from "./elements.js";
import { clamp } from "./matrix.js";
import { change, onChange, view } from "./view.js";
import { digits, isRightToLeft, label, percent, quoted } from "./words.js";

const MOST_COLUMNS = 24; // outputs; of more, those around the chosen one

/** Build the panel. */
export function layersPanel(explained) {
  const { lens, encoder_lens: encoderLens } = explained.document;
  const tables = { lens, encoder: encoderLens };
  let shown = lens.length ? "lens" : "encoder";
  const kinds = choice(
    "Lens",
    [
      { value: "lens", text: "logit lens" },
      { value: "encoder", text: "DecoderLens" },
    ],
    shown,
    (value) => {
      shown = value;
      draw();
    },
  );
  const box = el("div", { class: "scroll", tabindex: 0, "aria-label": "Outputs by layer" });
  const hint = el("p", { class: "hint" });
  const root = el(
    "section",
    { class: "panel", id: "layers" },
    el("h2", {}, el("span", { class: "number", text: "5" }), el("span", { text: "Layers" })),
    el("div", { class: "controls" }, lens.length && encoderLens.length ? kinds : null),
    box,
    hint,
  );
  const draw = () => {
    keepFocus(box, () => box.replaceChildren(lensTable(explained, tables[shown])));
    hint.textContent =
      shown === "lens"
        ? "The most probable output if the layers after this one were left out; the stronger the color, the more probable."
        : "The most probable output if the decoder read this layer of the encoder; the stronger the color, the more probable.";
  };
  onChange(draw);
  return root;
}

function lensTable(explained, rows) {
  const { outputs } = explained;
  const first = clamp(view.output - (MOST_COLUMNS >> 1), 0, outputs.length - MOST_COLUMNS);
  const indices = outputs.map((_, index) => index).slice(first, first + MOST_COLUMNS);
  const isReversed = isRightToLeft(outputs.map(({ text }) => text));
  const scores = rows.map((row) => row.scores[view.output]).filter((score) => score !== undefined);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const header = el(
    "tr",
    {},
    el("th", { scope: "col", text: "layer" }),
    scores.length
      ? el("th", {
          scope: "col",
          class: "score",
          title: `score of ${quoted(outputs[view.output].text)}`,
          text: explained.document.unit,
        })
      : null,
    ...indices.map((index) =>
      el(
        "th",
        { scope: "col", class: index === view.output ? "chosen" : "" },
        el("button", {
          type: "button",
          dir: "auto",
          "data-key": index,
          text: label(outputs[index].text),
          on: { click: () => change({ output: index }) },
        }),
      ),
    ),
  );
  const body = [...rows]
    .reverse()
    .map((row) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", text: row.layer }),
        scores.length ? scoreCell(row.scores[view.output], low, high) : null,
        ...indices.map((index) => lensCell(row, index, outputs[index].text)),
      ),
    );
  return el(
    "table",
    { class: "lens", dir: isReversed ? "rtl" : "ltr" },
    el("thead", {}, header),
    el("tbody", {}, ...body),
  );
}

function lensCell(row, index, output) {
  const text = row.texts[index];
  if (text === undefined) return el("td", { text: "–" });
  const probability = row.probabilities[index];
  const shade = 0.85 * probability;
  return el("td", {
    class: text === output ? "same" : "",
    dir: "auto",
    text: label(text),
    title: `${label(text)}, ${percent(probability)}`,
    css: { background: color(shade, false), color: textColor(shade, false) },
  });
}

function scoreCell(score, low, high) {
  if (score === undefined) return el("td", { class: "score", text: "–" });
  const fraction = high > low ? (score - low) / (high - low) : 1;
  return el(
    "td",
    { class: "score" },
    el(
      "span",
      { class: "track" },
      el("span", { class: "bar", css: { width: `${Math.max(2, 100 * fraction)}%` } }),
    ),
    el("span", { class: "number", text: digits(score) }),
  );
}
