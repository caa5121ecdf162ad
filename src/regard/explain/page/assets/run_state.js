// A run as its page knows it: the state it was sent, and the events since.

const WARNINGS = 50;
const LOSSES = ["loss", "shuffled_loss"];

export class RunState {
  /** `state` is what the service says of the run so far, `now` the time in seconds. */
  constructor({ run, latest, progress, evaluated, warned, num_warnings, ...state }, now) {
    Object.assign(this, { run, latest, progress, evaluated, warned, numWarnings: num_warnings });
    this.eventTime = now - state.seconds_since_event;
  }

  /** Add an event, as the service adds it to what it says to those who come later. */
  add(fields, now) {
    const kind = fields.event;
    this.eventTime = now;
    if (kind === "warned") {
      this.numWarnings += 1;
      this.warned.push(fields);
      this.warned.splice(0, this.warned.length - WARNINGS);
      return;
    }
    delete this.latest.working; // what comes next says that it is done
    this.latest[kind] = fields;
    const { examples, ...point } = fields; // of the latest evaluation alone
    if (kind === "progress" || kind === "evaluated") this[kind].push(point);
  }

  /** What the run does now, in one word: also the color of its sign. */
  get phase() {
    const { ended, finished, interrupted, progress, planned, model } = this.latest;
    if (finished) return "finished";
    if (ended) return interrupted || !ended.has_failed ? "stopped" : "failed";
    if (progress) return progress.step >= progress.total_steps ? "testing" : "training";
    return planned || model ? "starting" : "reading";
  }

  get hasEnded() {
    return Boolean(this.latest.ended);
  }

  /** The last progress or evaluation, whichever is later. */
  get position() {
    const { progress, evaluated } = this.latest;
    if (!progress || !evaluated) return progress ?? evaluated ?? null;
    return evaluated.step >= progress.step ? evaluated : progress;
  }

  /** The first point of any curve. */
  get first() {
    const firsts = [this.progress[0], this.evaluated[0]].filter(Boolean);
    return firsts.length > 1 && firsts[1].step < firsts[0].step ? firsts[1] : (firsts[0] ?? null);
  }

  /** The last one. */
  get last() {
    const lasts = [this.progress, this.evaluated].map((rows) => rows[rows.length - 1]);
    const [progress, evaluated] = lasts;
    return !progress || evaluated?.step >= progress.step ? (evaluated ?? null) : progress;
  }

  /** The evaluation whose weights are kept. */
  get best() {
    for (let index = this.evaluated.length - 1; index >= 0; index--)
      if (this.evaluated[index].is_best) return this.evaluated[index];
    return null;
  }

  /** Names of the figures of evaluations besides the losses, the one that decides first. */
  get scoreNames() {
    const names = new Set();
    const decides = this.evaluated[this.evaluated.length - 1]?.score_name;
    if (decides && !LOSSES.includes(decides)) names.add(decides);
    for (const { measures } of this.evaluated)
      for (const name of Object.keys(measures)) if (!LOSSES.includes(name)) names.add(name);
    return [...names];
  }

  /** A figure of every evaluation, as points of a curve. */
  measure(name) {
    return this.evaluated
      .filter(({ measures }) => name in measures)
      .map(({ step, elapsed, measures }) => ({ step, elapsed, value: measures[name] }));
  }

  /** A field of every progress; of an earlier session there are its evaluations alone. */
  field(name, ofEvaluation = name) {
    const own = points(this.progress, name);
    const first = own[0]?.step ?? Infinity;
    return [...this.evaluatedField(ofEvaluation).filter(({ step }) => step < first), ...own];
  }

  /** A field of every evaluation. */
  evaluatedField(name) {
    return points(this.evaluated, name);
  }
}

function points(rows, name) {
  return rows
    .filter((row) => name in row)
    .map((row) => ({ step: row.step, elapsed: row.elapsed, value: row[name] }));
}
