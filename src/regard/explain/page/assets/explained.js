// The explanation, with what the panels ask of it.

const WRITTEN = new Set(["target", "continuation"]); // parts that are the outputs, fed back

/** One explanation, opened. */
export class Explained {
  constructor({ explanation, maps }) {
    this.document = explanation;
    this.maps = maps;
    this.features = explanation.input;
    this.outputs = explanation.output;
    const { first, methods } = explanation;
    const names = Object.keys(methods);
    this.names = names.includes(first) ? [first, ...names.filter((name) => name !== first)] : names;
    this.parts = this.findParts();
    this.kinds = [...new Set(maps.map((map) => map.kind))];
  }

  findParts() {
    const parts = [];
    this.features.forEach(({ part }, index) => {
      if (parts.at(-1)?.name !== part) {
        parts.push({ name: part, start: index, stop: index, isWritten: WRITTEN.has(part) });
      }
      parts.at(-1).stop = index + 1;
    });
    return parts;
  }

  method(name) {
    return this.document.methods[name];
  }

  /** Return the scores of all features for an output; null where it does not depend on one. */
  row(name, output) {
    const scores = name === "control" ? this.document.control : this.method(name).scores;
    return scores[output] ?? this.features.map(() => null);
  }

  /** Return the largest magnitude of a method's scores, of one output or of all. */
  largest(name, output = null) {
    let largest = 0;
    const outputs = output === null ? this.outputs.map((_, index) => index) : [output];
    for (const index of outputs) {
      for (const value of this.row(name, index)) largest = Math.max(largest, Math.abs(value ?? 0));
    }
    return largest;
  }

  isSigned(name) {
    return this.method(name).is_signed;
  }

  /** Return the probability of an output, or null where it has none. */
  probability(output) {
    const { text, score, alternatives } = this.outputs[output];
    if (text in alternatives) return alternatives[text];
    return this.document.unit === "nats" ? Math.min(1, Math.exp(score)) : null;
  }

  /** Return the last feature that an output depends on, where its last state is read. */
  position(output) {
    const known = this.document.positions?.[output];
    if (known !== undefined) return known;
    if (!this.names.length) return 0;
    const row = this.row(this.names[0], output);
    if (row.every((value) => value !== null)) return 0; // of a classifier
    return row.findLastIndex((value) => value !== null);
  }

  /** Return the features of the queries of a map, or null where it has positions of its own. */
  queryStart(map) {
    return map.kind === "encoder" ? 0 : Math.max(0, this.features.length - map.queries);
  }

  keyStart(map) {
    return map.kind === "decoder" ? Math.max(0, this.features.length - map.keys) : 0;
  }

  queryText(map, query) {
    return this.features[this.queryStart(map) + query]?.text ?? `${query}`;
  }

  keyText(map, key) {
    return this.features[this.keyStart(map) + key]?.text ?? `${key}`;
  }

  /** Return the query of a map whose state an output is read from; null where it has none. */
  queryOf(map, output) {
    if (map.kind === "encoder" && this.kinds.length > 1) return null;
    const query = this.position(output) - this.queryStart(map);
    return query >= 0 && query < map.queries ? query : null;
  }
}
