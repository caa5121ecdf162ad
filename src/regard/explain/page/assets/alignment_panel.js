// Panel 2: alignment. All outputs by all words of the input.

import { choice, el, tableTwin } from "./elements.js";
import { Matrix } from "./matrix.js";
import { change, onChange, view } from "./view.js";
import { digits, label } from "./words.js";

const MOST_TABLE_CELLS = 4_000;
const NUM_STRONGEST = 10; // words of an output, in the table of a large matrix

/** Build the panel. */
export function alignmentPanel(explained) {
  const matrix = new Matrix();
  let isByRow = explained.features.length > 64;
  const methods = choice("Method", explained.names.map((name) => ({
    value: name, text: explained.method(name).title,
  })), explained.names[0], (method) => change({ method }));
  const scaling = choice("Scale", [
    { value: "all", text: "one scale" }, { value: "row", text: "each row its own" },
  ], isByRow ? "row" : "all", (value) => { isByRow = value === "row"; draw(); });
  const twin = tableTwin("Outputs by words of the input", () => tableRows(explained));
  const isOne = explained.outputs.length === 1;
  const root = el("section", { class: "panel", id: "alignment" },
    el("h2", {}, el("span", { class: "number", text: "2" }), el("span", { text: "Alignment" })),
    el("div", { class: "controls" }, methods, isOne ? null : scaling), matrix.root, twin);
  const draw = () => {
    methods.choose(view.method);
    matrix.update(record(explained, isByRow));
    twin.refresh();
  };
  onChange(draw);
  return root;
}

function record(explained, isByRow) {
  const name = view.method;
  const { title, unit } = explained.method(name);
  const isSigned = explained.isSigned(name);
  const largest = explained.largest(name) || 1;
  const scales = explained.outputs.map((_, output) =>
    (isByRow ? explained.largest(name, output) || 1 : largest));
  const end = isByRow ? "largest of its row" : `${digits(largest)} ${unit}`;
  return {
    label: `Alignment by ${title}`,
    rows: explained.outputs.map(({ text }) => text),
    columns: explained.features.map(({ text }) => text),
    isSigned,
    hasHatching: explained.outputs.some((_, output) => explained.row(name, output).includes(null))
      ? "not read" : "",
    row: view.output,
    column: view.feature,
    scaleText: isSigned ? [isByRow ? "" : `−${digits(largest)}`, end] : ["0", end],
    tiles: (area, height, width) => tiles(explained, name, scales, area, height, width),
    describe: (output, feature) => {
      const value = explained.row(name, output)[feature];
      const words = `“${label(explained.outputs[output].text)}” ← “${label(explained.features[feature].text)}”`;
      return value === null ? `${words}  does not depend on it` : `${words}  ${digits(value)} ${unit}`;
    },
    onPick: (output, feature) => change({ output, feature }),
  };
}

/** Return the scores of a part as tiles: of each the score with the largest magnitude. */
function tiles(explained, name, scales, [top, bottom, left, right], height, width) {
  const values = new Float32Array(height * width).fill(NaN);
  for (let output = top; output < bottom; output++) {
    const row = explained.row(name, output);
    const line = Math.floor((output - top) * height / (bottom - top)) * width;
    for (let feature = left; feature < right; feature++) {
      if (row[feature] === null) continue;
      const value = row[feature] / scales[output];
      const tile = line + Math.floor((feature - left) * width / (right - left));
      if (!(Math.abs(values[tile]) >= Math.abs(value))) values[tile] = value;
    }
  }
  return values;
}

function tableRows(explained) {
  const rows = explained.outputs.map((_, output) => explained.row(view.method, output));
  const { features } = explained;
  if (rows.length * features.length <= MOST_TABLE_CELLS) {
    return [["output", ...features.map(({ text }) => label(text))],
      ...rows.map((row, output) => [label(explained.outputs[output].text), ...row.map(digits)])];
  }
  return [["output", "words with the largest scores"], ...rows.map((row, output) => {
    const order = row.map((_, index) => index).filter((index) => row[index] !== null);
    order.sort((one, two) => Math.abs(row[two]) - Math.abs(row[one]));
    const words = order.slice(0, NUM_STRONGEST).map((index) =>
      `${index + 1} ${label(features[index].text)} ${digits(row[index])}`);
    return [label(explained.outputs[output].text), words.join(", ")];
  })];
}
