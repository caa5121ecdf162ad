// Panel 2: alignment. All outputs by all words of the input.

import { choice, el, tableTwin } from "./elements.js";
import { Matrix } from "./matrix.js";
import { change, onChange, view } from "./view.js";
import { digits, label, quoted } from "./words.js";

const MOST_TABLE_CELLS = 4_000;
const NUM_STRONGEST = 10; // words of an output, in the table of a large matrix

/** Build the panel. */
export function alignmentPanel(explained) {
  const matrix = new Matrix();
  let isByRow = explained.features.length > 64;
  const read = explained.parts.filter((part) => !part.isWritten);
  const hasSource = read.some(({ name }) => name === "source");
  const hasWritten = explained.parts.some(
    ({ isWritten, start, stop }) =>
      isWritten &&
      explained.features.slice(start, stop).some(({ is_special: isSpecial }) => !isSpecial),
  );
  let isWhole = hasWritten && !hasSource;
  const columns = choice(
    "Columns",
    [
      { value: false, text: read.map(({ name }) => name).join(" and ") },
      { value: true, text: "and what was written" },
    ],
    isWhole,
    (value) => {
      isWhole = value;
      draw();
    },
  );
  const methods = choice(
    "Method",
    explained.names.map((name) => ({
      value: name,
      text: explained.method(name).title,
    })),
    explained.names[0],
    (method) => change({ method }),
  );
  const scaling = choice(
    "Scale",
    [
      { value: "all", text: "one scale" },
      { value: "row", text: "each row its own" },
    ],
    isByRow ? "row" : "all",
    (value) => {
      isByRow = value === "row";
      draw();
    },
  );
  const twin = tableTwin("Outputs by words of the input", () => tableRows(explained));
  const isOne = explained.outputs.length === 1;
  const root = el(
    "section",
    { class: "panel", id: "alignment" },
    el("h2", {}, el("span", { class: "number", text: "2" }), el("span", { text: "Alignment" })),
    el("div", { class: "controls" }, methods, isOne ? null : scaling, hasWritten ? columns : null),
    matrix.root,
    twin,
  );
  const draw = () => {
    methods.choose(view.method);
    matrix.update(record(explained, isByRow, isWhole));
    twin.refresh();
  };
  onChange(draw);
  return root;
}

function record(explained, isByRow, isWhole) {
  const shown = explained.parts
    .filter((part) => isWhole || !part.isWritten)
    .flatMap(({ start, stop }) =>
      Array.from({ length: stop - start }, (_, index) => start + index),
    );
  const name = view.method;
  const { title, unit } = explained.method(name);
  const isSigned = explained.isSigned(name);
  const byRow = explained.outputs.map((_, output) => explained.largest(name, output, shown));
  const largest = byRow.reduce((one, two) => Math.max(one, two));
  const scales = isByRow ? byRow : byRow.map(() => largest);
  const end = isByRow ? "largest of its row" : `${digits(largest)} ${unit}`;
  return {
    label: `Alignment by ${title}`,
    rows: explained.labels.outputs,
    columns: shown.map((feature) => explained.labels.features[feature]),
    isSigned,
    hasHatching: explained.outputs.some((_, output) =>
      shown.some((feature) => explained.row(name, output)[feature] === null),
    )
      ? "not read"
      : "",
    row: view.output,
    column: shown.includes(view.feature) ? shown.indexOf(view.feature) : null,
    strongest: strongest(explained.row(name, view.output), shown),
    scaleText: [isSigned ? `−${isByRow ? end : digits(largest)}` : "0", end],
    tiles: (area, height, width) => tiles(explained, name, { scales, shown }, area, height, width),
    describe: (output, column) => {
      const feature = shown[column];
      const value = explained.row(name, output)[feature];
      const words = `${quoted(explained.outputs[output].text)} ← ${quoted(explained.features[feature].text)}`;
      return value === null
        ? `${words}  does not depend on it`
        : `${words}  ${digits(value)} ${unit}`;
    },
    onPick: (output, column) => change({ output, feature: shown[column] }),
  };
}

function strongest(row, shown) {
  let best = 0;
  shown.forEach((feature, column) => {
    if (Math.abs(row[feature] ?? 0) > Math.abs(row[shown[best]] ?? 0)) best = column;
  });
  return best;
}

/** Return the scores of a part as tiles: of each the score with the largest magnitude. */
function tiles(explained, name, { scales, shown }, [top, bottom, left, right], height, width) {
  const values = new Float32Array(height * width).fill(NaN);
  for (let output = top; output < bottom; output++) {
    const row = explained.row(name, output);
    const line = Math.floor(((output - top) * height) / (bottom - top)) * width;
    for (let column = left; column < right; column++) {
      const score = row[shown[column]];
      if (score === null) continue;
      const value = score / scales[output];
      const tile = line + Math.floor(((column - left) * width) / (right - left));
      if (!(Math.abs(values[tile]) >= Math.abs(value))) values[tile] = value;
    }
  }
  return values;
}

function tableRows(explained) {
  const rows = explained.outputs.map((_, output) => explained.row(view.method, output));
  const { features } = explained;
  if (rows.length * features.length <= MOST_TABLE_CELLS) {
    return [
      ["output", ...features.map(({ text }) => label(text))],
      ...rows.map((row, output) => [label(explained.outputs[output].text), ...row.map(digits)]),
    ];
  }
  return [
    ["output", "words with the largest scores"],
    ...rows.map((row, output) => {
      const order = row.map((_, index) => index).filter((index) => row[index] !== null);
      order.sort((one, two) => Math.abs(row[two]) - Math.abs(row[one]));
      const words = order
        .slice(0, NUM_STRONGEST)
        .map((index) => `${index + 1} ${label(features[index].text)} ${digits(row[index])}`);
      return [label(explained.outputs[output].text), words.join(", ")];
    }),
  ];
}
