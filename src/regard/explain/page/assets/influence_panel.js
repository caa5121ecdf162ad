// Panel 7: training rows. What the outputs owe to rows of the training data.

import { color } from "./colors.js";
import { el } from "./elements.js";
import { onChange } from "./view.js";
import { count, digits, grouped } from "./words.js";

const MOST_CHARACTERS = 400; // of a text; all of it is in the JSON

/** Build the panel. */
export function influencePanel({ document: { influence, contrast } }) {
  const largest = Math.max(
    ...[...influence.helpful, ...influence.harmful].map((row) => Math.abs(row.influence)),
    Number.MIN_VALUE,
  );
  const bars = [];
  const table = (title, rows) =>
    el(
      "div",
      { class: "scroll", tabindex: 0, "aria-label": title },
      el(
        "table",
        { class: "influence" },
        el("caption", { text: title }),
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ...["nats", "", "row", "target", "text"].map((text) => el("th", { scope: "col", text })),
          ),
        ),
        el("tbody", {}, ...rows.map((row) => rowOf(row, largest, bars))),
      ),
    );
  const root = el(
    "section",
    { class: "panel", id: "influence" },
    el("h2", {}, el("span", { class: "number", text: "7" }), el("span", { text: "Training rows" })),
    el("p", { class: "note", dir: "auto", text: summary(influence) }),
    el(
      "div",
      { class: "influence-tables" },
      influence.helpful.length ? table("Without them the output would be less probable", influence.helpful) : null,
      influence.harmful.length ? table("Without them it would be more probable", influence.harmful) : null,
    ),
    influence.retraining ? retrainingText(influence.retraining, contrast) : null,
    el("p", {
      class: "hint",
      text: "Influence is a linear estimate near the trained weights of what leaving out a row in training changes, in nats of log-probability.",
    }),
  );
  const paint = () => {
    for (const { bar, value } of bars) bar.style.background = color(Math.sign(value) * 0.9, true);
  };
  onChange((names) => names.includes("theme") && paint());
  return root;
}

function summary({ data, unit, num_rows, total_helpful, total_harmful, num_products, seconds }) {
  return (
    `${data}, ${grouped(num_rows)} ${unit}: together ${signed(total_helpful)} and ` +
    `${signed(total_harmful)} nats · ${count(num_products, "product")} with the curvature · ${digits(seconds)} s`
  );
}

function signed(value) {
  return value > 0 ? `+${digits(value)}` : digits(value);
}

function rowOf({ location, text, target, influence }, largest, bars) {
  const bar = el("span", {
    class: "bar",
    css: { width: `${(100 * Math.abs(influence)) / largest}%` },
  });
  bars.push({ bar, value: influence });
  return el(
    "tr",
    {},
    el("td", { class: "score", text: signed(influence) }),
    el("td", { class: "bar-cell" }, bar),
    el("th", { scope: "row", dir: "auto", text: location }),
    el("td", { class: "long", dir: "auto", text: shorten(target) }),
    el("td", { class: "long", dir: "auto", text: text === location ? "" : shorten(text) }),
  );
}

function shorten(text) {
  const characters = [...text];
  return characters.length <= MOST_CHARACTERS
    ? text
    : `${characters.slice(0, MOST_CHARACTERS - 1).join("")}…`;
}

/** Say what training again has shown. */
function retrainingText(retraining, contrast) {
  const { num_left_out, estimate, complete, without_most_influential, without_random } = retraining;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return el("p", {
    class: "note",
    text:
      `Trained again (${count(complete.length, "time")} each): log-probability${contrast === null ? "" : " over contrast"} ${digits(mean(complete))} with all rows, ` +
      `${digits(mean(without_most_influential))} without the ${grouped(num_left_out)} of most influence ` +
      `(estimate ${digits(mean(complete) - estimate)}), ${digits(mean(without_random))} without as many random ones.`,
  });
}
