// The explanation, with what the panels ask of it.

import { digits, percent, quoted, shortTimes } from "./words.js";

const WRITTEN = new Set(["target", "continuation", "ahead"]); // parts that are the outputs, fed back
const SERIES = new Set(["history", "rows"]); // parts whose features have no words
const MOST_ERROR_OF_CONVERGED = 0.1; // of a method that has converged
const BYTE = /^(\s*)(\S+)·(\d+)$/; // one of the bytes of a character
const PATCH = /^patch (\d+), (\d+)$/;

/** One explanation, opened. */
export class Explained {
  constructor({ explanation, maps }) {
    this.document = explanation;
    this.maps = maps;
    this.features = explanation.input;
    this.outputs = explanation.output;
    const { first, methods } = explanation;
    const names = this.outputs.length ? Object.keys(methods) : [];
    this.names = names.includes(first) ? [first, ...names.filter((name) => name !== first)] : names;
    this.parts = this.findParts();
    this.leads = this.findLeads();
    this.labels = this.findLabels();
    this.kinds = [...new Set(maps.map((map) => map.kind))];
  }

  findParts() {
    const parts = [];
    this.features.forEach(({ part }, index) => {
      if (parts.at(-1)?.name !== part) {
        parts.push({
          name: part,
          start: index,
          stop: index,
          isWritten: WRITTEN.has(part),
          isSeries: SERIES.has(part),
        });
      }
      parts.at(-1).stop = index + 1;
    });
    return parts;
  }

  /** Return for each feature the first of the bytes of its character; others are their own. */
  findLeads() {
    const leads = this.features.map((_, index) => index);
    this.features.forEach(({ text, part }, index) => {
      const [, , character, number] = BYTE.exec(text) ?? [];
      const before = this.features[index - 1];
      if (before?.part === part && before.text.trim() === `${character}·${number - 1}`)
        leads[index] = leads[index - 1];
    });
    return leads;
  }

  /** Return short texts of features and outputs: of times what tells them apart. */
  findLabels() {
    const features = this.features.map(({ text }) => text);
    const outputs = this.outputs.map(({ text }) => text);
    if (this.hasProbabilities) return { features, outputs };
    const past = this.features.map((_, index) => index).filter((i) => this.features[i].part === "history");
    const short = shortTimes([...past.map((index) => features[index]), ...outputs]);
    past.forEach((index, at) => {
      features[index] = short[at];
    });
    return { features, outputs: short.slice(past.length) };
  }

  /** Return the text of a word: a feature, or the character whose bytes begin at it. */
  wordText(lead) {
    const text = this.labels.features[lead];
    return this.leads[lead + 1] === lead ? text.replace(BYTE, "$1$2") : text;
  }

  /** Return scores with those of the bytes of a character summed at its first, null at others. */
  byWord(row) {
    const sums = row.map(() => null);
    row.forEach((value, index) => {
      if (value !== null) sums[this.leads[index]] = (sums[this.leads[index]] ?? 0) + value;
    });
    return sums;
  }

  /** Return an output as a reader sees it: with its value where it has no probability. */
  outputWord(output) {
    const text = this.labels.outputs[output];
    return this.hasProbabilities ? text : `${text} ${digits(this.outputs[output].score)}`;
  }

  /** Return an output as the subject of a heading. */
  outputTitle(output) {
    const { text, score } = this.outputs[output];
    return this.hasProbabilities
      ? quoted(text)
      : `${quoted(text)} is ${digits(score)} ${this.document.unit}`;
  }

  method(name) {
    return this.document.methods[name];
  }

  /** Return the scores of all features for an output; null where it does not depend on one. */
  row(name, output) {
    const scores = name === "control" ? this.document.control : this.method(name).scores;
    return scores[output] ?? this.features.map(() => null);
  }

  /** Return the largest magnitude of a method's scores for an output, of all features or of some. */
  largest(name, output, features = null) {
    const row = this.row(name, output);
    const values = features === null ? row : features.map((feature) => row[feature]);
    return values.reduce((largest, value) => Math.max(largest, Math.abs(value ?? 0)), 0) || 1;
  }

  /** Whether outputs have probabilities: scores in nats are logarithms of them. */
  get hasProbabilities() {
    return this.document.unit === "nats";
  }

  /** Return what a reader must know of a method that missed the change it shares out; else "". */
  warning(name) {
    const error = this.document.methods[name]?.error ?? 0;
    return error > MOST_ERROR_OF_CONVERGED ? `not converged: error ${percent(error)}` : "";
  }

  isSigned(name) {
    return this.method(name).is_signed;
  }

  /** Return the probability of an output, or null where it has none. */
  probability(output) {
    return this.document.unit === "nats" ? Math.min(1, Math.exp(this.outputs[output].score)) : null;
  }

  /** Return the most probable outputs, and the chosen one where it is not among them. */
  alternatives(output, most = Infinity) {
    const { alternatives, text } = this.outputs[output];
    const probability = this.probability(output);
    const rows = Object.entries(alternatives) // JSON does not keep their order
      .map(([text, probability]) => ({ text, probability }))
      .sort((one, two) => two.probability - one.probability);
    if (!rows.length) return rows;
    // Not by its text alone: that of an output may say more, such as "start: The".
    const isChosen = (row) => Math.abs(row.probability - probability) <= 1e-5 * probability;
    const chosen = rows.find((row) => row.text === text && isChosen(row)) ??
      rows.find(isChosen) ?? { text, probability };
    chosen.isChosen = true;
    const shown = rows.slice(0, most);
    return shown.includes(chosen) ? shown : [...shown, chosen];
  }

  /** Return the last feature that an output depends on, where its last state is read. */
  position(output) {
    const known = this.document.positions[output];
    if (known !== undefined) return known;
    if (!this.names.length) return 0;
    const row = this.row(this.names[0], output);
    if (row.every((value) => value !== null)) return 0; // of a classifier
    return row.findLastIndex((value) => value !== null);
  }

  /** Return the first feature of the decoder: behind the source, or the first of all. */
  get decoderStart() {
    return this.parts.find(({ name }) => name === "target")?.start ?? 0;
  }

  queryStart(map) {
    return map.kind === "encoder" ? 0 : this.decoderStart;
  }

  keyStart(map) {
    return map.kind === "decoder" ? this.decoderStart : 0;
  }

  queryText(map, query) {
    return this.tileText(this.queryStart(map) + query * map.tile, map.tile);
  }

  keyText(map, key) {
    return this.tileText(this.keyStart(map) + key * map.tile, map.tile);
  }

  tileText(feature, tile) {
    const text = this.labels.features[feature] ?? `position ${feature + 1}`;
    return tile === 1 ? text : `${feature + 1} ${text.trim()}…`;
  }

  /** Return where the patches of a part are in their picture, or null where it has no patches. */
  patches({ start, stop }) {
    const cells = [];
    for (let index = start; index < stop; index++) {
      const match = PATCH.exec(this.features[index].text);
      if (match) cells.push({ index, row: Number(match[1]), column: Number(match[2]) });
    }
    if (!cells.length) return null;
    const [top, left] = [
      Math.min(...cells.map(({ row }) => row)),
      Math.min(...cells.map(({ column }) => column)),
    ];
    for (const cell of cells)
      Object.assign(cell, { row: cell.row - top, column: cell.column - left });
    return {
      cells,
      rows: Math.max(...cells.map(({ row }) => row)) + 1,
      columns: Math.max(...cells.map(({ column }) => column)) + 1,
    };
  }

  /** Return the query of a map whose state an output is read from; null where it has none. */
  queryOf(map, output) {
    if (map.kind === "encoder" && this.decoderStart > 0) return null;
    const query = Math.floor((this.position(output) - this.queryStart(map)) / map.tile);
    return query >= 0 && query < map.queries ? query : null;
  }
}
