// The data of the page: the document of the explanation, and its packed numbers.

/** Unpack the scores of the data; its maps unpack themselves. */
export async function unpackPayload({ document: explanation, scores, attention }) {
  for (const [name, packed] of Object.entries(scores)) {
    const rows = await unpackScores(packed);
    if (name === "control") explanation.control = rows;
    else explanation.methods[name].scores = rows;
  }
  return { explanation, maps: attention.map((packed) => new AttentionMap(packed, attention)) };
}

async function inflate(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackScores({ rows, largest, bits, data }) {
  const bytes = await inflate(data);
  const size = (bytes.length * 8) / bits;
  const columns = size / rows;
  const top = 2 ** (bits - 1) - 1;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (_, column) => {
      const at = row * columns + column;
      const unsigned = bits === 16 ? bytes[at] | (bytes[at + size] << 8) : bytes[at];
      const integer = unsigned > top ? unsigned - 2 ** bits : unsigned;
      if (integer < -top) return null;
      const fraction = integer / top;
      return largest[row] * (bits === 16 ? fraction : fraction * Math.abs(fraction));
    }),
  );
}

/** Reads columns of 16-bit numbers, each as a plane of low bytes and one of high bytes. */
class Columns {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  next(length) {
    const { bytes, at } = this;
    const values = new Uint16Array(length);
    for (let i = 0; i < length; i++) values[i] = bytes[at + i] | (bytes[at + length + i] << 8);
    this.at += 2 * length;
    return values;
  }
}

function starts(counts) {
  const sums = new Uint32Array(counts.length + 1);
  for (let i = 0; i < counts.length; i++) sums[i + 1] = sums[i] + counts[i];
  return sums;
}

/** The weights of one layer: for each query the keys with most weight, and the rest of its row. */
export class AttentionMap {
  constructor(packed, all) {
    const { layer, kind, pattern, queries, keys, tile, heads, effects, sinks, most } = packed;
    Object.assign(this, { layer, kind, pattern, queries, keys, tile, heads, effects, sinks, most });
    this.packed = packed;
    this.packedRuns = typeof packed.runs === "number" ? all[packed.runs].runs : packed.runs;
    this.isOpen = false;
  }

  /** Unpack the numbers; once. */
  async open() {
    if (this.isOpen) return this;
    const columns = new Columns(await inflate(this.packed.rows));
    const counts = columns.next(this.heads * this.queries);
    this.start = starts(counts);
    const total = this.start[counts.length];
    const steps = columns.next(total);
    this.weight = columns.next(total);
    this.rest = columns.next(counts.length);
    this.key = new Uint16Array(total);
    for (let row = 0; row < counts.length; row++) {
      let key = 0;
      for (let i = this.start[row]; i < this.start[row + 1]; i++) {
        key = i === this.start[row] ? steps[i] : key + steps[i];
        this.key[i] = key;
      }
    }
    const runs = new Columns(await inflate(this.packedRuns));
    const numRuns = runs.next(this.queries);
    this.runStart = starts(numRuns);
    const numAll = this.runStart[this.queries];
    this.runFirst = runs.next(numAll);
    this.runLength = runs.next(numAll);
    this.isOpen = true;
    return this;
  }

  /** Return the keys that a row names, with their weights 0 to 1, largest first. */
  row(head, query) {
    const row = head * this.queries + query;
    const entries = [];
    for (let i = this.start[row]; i < this.start[row + 1]; i++) {
      entries.push({ key: this.key[i], weight: this.weight[i] / 1000 });
    }
    return entries.sort((one, two) => two.weight - one.weight);
  }

  /** Return what the keys of a row that are not named have together. */
  restOf(head, query) {
    return this.rest[head * this.queries + query] / 1000;
  }

  /** Return the number of keys that the pattern allows a query. */
  numComputed(query) {
    let total = 0;
    for (let i = this.runStart[query]; i < this.runStart[query + 1]; i++)
      total += this.runLength[i];
    return total;
  }

  /** Return whether the pattern allows a query a key. */
  isComputed(query, key) {
    for (let i = this.runStart[query]; i < this.runStart[query + 1]; i++) {
      const first = this.runFirst[i];
      if (key >= first && key < first + this.runLength[i]) return true;
    }
    return false;
  }

  /** Return a weight: exact where the row names the key, else a bound; null was never computed. */
  value(head, query, key) {
    const row = head * this.queries + query;
    for (let i = this.start[row]; i < this.start[row + 1]; i++) {
      if (this.key[i] === key) return { weight: this.weight[i] / 1000, isExact: true };
    }
    if (!this.isComputed(query, key)) return null;
    return { weight: this.rest[row] / 1000, isExact: this.rest[row] === 0 };
  }

  /** Return the largest weight of a head. */
  largest(head) {
    let largest = 1;
    const end = this.start[(head + 1) * this.queries];
    for (let i = this.start[head * this.queries]; i < end; i++) {
      if (this.weight[i] > largest) largest = this.weight[i];
    }
    return largest / 1000;
  }

  /**
   * Return a part of a head as `height * width` tiles, each the largest of its weights; NaN where
   * none was computed. Weights are fractions of `scale`, or of the largest of their row where that
   * is null. What a row does not name is spread evenly over its other keys.
   */
  tiles(head, [top, bottom, left, right], height, width, scale) {
    const tiles = new Float32Array(height * width).fill(NaN);
    const down = height / (bottom - top);
    const across = width / (right - left);
    for (let query = top; query < bottom; query++) {
      const row = head * this.queries + query;
      const line = Math.floor((query - top) * down) * width;
      const [first, end] = [this.start[row], this.start[row + 1]];
      let unit = scale === null ? 1 : scale * 1000;
      if (scale === null) {
        for (let i = first; i < end; i++) if (this.weight[i] > unit) unit = this.weight[i];
      }
      const others = Math.max(1, this.numComputed(query) - (end - first));
      const base = this.rest[row] / others / unit;
      for (let i = this.runStart[query]; i < this.runStart[query + 1]; i++) {
        const low = Math.max(left, this.runFirst[i]);
        const high = Math.min(right, this.runFirst[i] + this.runLength[i]);
        if (low >= high) continue;
        const last = line + Math.floor((high - 1 - left) * across);
        for (let tile = line + Math.floor((low - left) * across); tile <= last; tile++) {
          if (!(tiles[tile] >= base)) tiles[tile] = base;
        }
      }
      for (let i = first; i < end; i++) {
        const key = this.key[i];
        if (key < left || key >= right) continue;
        const tile = line + Math.floor((key - left) * across);
        const value = Math.min(1, this.weight[i] / unit);
        if (!(tiles[tile] >= value)) tiles[tile] = value;
      }
    }
    return tiles;
  }

  /** Return the map as the document of the explanation has it. */
  toDocument() {
    const rows = (head) =>
      Array.from({ length: this.queries }, (_, query) => {
        const entries = this.row(head, query).sort((one, two) => one.key - two.key);
        return [
          entries.map(({ key }) => key),
          entries.map(({ weight }) => Math.round(1000 * weight)),
          Math.round(1000 * this.restOf(head, query)),
        ];
      });
    const computed = Array.from({ length: this.queries }, (_, query) => {
      const runs = [];
      for (let i = this.runStart[query]; i < this.runStart[query + 1]; i++) {
        runs.push([this.runFirst[i], this.runFirst[i] + this.runLength[i]]);
      }
      return runs;
    });
    return {
      layer: this.layer,
      kind: this.kind,
      pattern: this.pattern,
      num_queries: this.queries,
      num_keys: this.keys,
      tile: this.tile,
      heads: Array.from({ length: this.heads }, (_, head) => rows(head)),
      effects: this.effects,
      sinks: this.sinks.map((sink) => sink && { key: sink[0], share: sink[1] }),
      computed,
    };
  }
}
