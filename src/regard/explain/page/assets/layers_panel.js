// Panel 5: layers. What the model would say if it ended after each of them.

import { color, textColor } from "./colors.js";
import { choice, el, keepFocus, onScroll } from "./elements.js";
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
  const more = el("p", { class: "hint" });
  const root = el(
    "section",
    { class: "panel", id: "layers" },
    el("h2", {}, el("span", { class: "number", text: "5" }), el("span", { text: "Layers" })),
    el("div", { class: "controls" }, lens.length && encoderLens.length ? kinds : null),
    box,
    more,
    hint,
  );
  onScroll(box, (hasMore) => {
    more.textContent = rangeText(explained, hasMore);
  });
  const draw = () => {
    const table = lensTable(explained, tables[shown]);
    box.dir = table.dir;
    keepFocus(box, () => box.replaceChildren(table));
    const [what, end] = explained.hasProbabilities
      ? ["The most probable output", "; the stronger the color, the more probable"]
      : ["The output", ""];
    hint.textContent =
      shown === "lens"
        ? `${what} if the layers after this one were left out${end}.`
        : `${what} if the decoder read this layer of the encoder${end}.`;
  };
  onChange(draw);
  return root;
}

/** Return the outputs that have a column: all, or those around the chosen one. */
function columnsOf({ outputs }) {
  const first = clamp(view.output - (MOST_COLUMNS >> 1), 0, outputs.length - MOST_COLUMNS);
  return outputs.map((_, index) => index).slice(first, first + MOST_COLUMNS);
}

/** Say what a reader does not see of the table. */
function rangeText(explained, hasMore) {
  const indices = columnsOf(explained);
  const isPart = indices.length < explained.outputs.length;
  const range = isPart
    ? `Outputs ${indices[0] + 1}–${indices.at(-1) + 1} of ${explained.outputs.length}`
    : "";
  return [range, hasMore ? "More columns follow: scroll to the side" : ""]
    .filter(Boolean)
    .join(". ");
}

function lensTable(explained, rows) {
  const { outputs } = explained;
  const indices = columnsOf(explained);
  const isReversed = isRightToLeft(outputs.map(({ text }) => text));
  const scores = rows.map((row) => row.scores[view.output]).filter((score) => score !== undefined);
  const header = el(
    "tr",
    {},
    el("th", { scope: "col", text: "layer" }),
    scores.length && explained.hasProbabilities
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
          text: label(explained.labels.outputs[index]),
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
        scores.length && explained.hasProbabilities
          ? el("td", { class: "score", text: digits(row.scores[view.output]) })
          : null,
        ...indices.map((index) => lensCell(explained, row, index)),
      ),
    );
  return el(
    "table",
    { class: "lens", dir: isReversed ? "rtl" : "ltr" },
    el("thead", {}, header),
    el("tbody", {}, ...body),
  );
}

function lensCell(explained, row, index) {
  if (!explained.hasProbabilities) {
    return el("td", { class: "score", text: digits(row.scores[index]) });
  }
  const text = row.texts[index];
  if (text === undefined) return el("td", { text: "–" });
  const probability = row.probabilities[index];
  const shade = 0.85 * probability;
  return el("td", {
    class: text === explained.outputs[index].text ? "same" : "",
    dir: "auto",
    text: label(text),
    title: `${label(text)}, ${percent(probability)}`,
    css: { background: color(shade, false), color: textColor(shade, false) },
  });
}
