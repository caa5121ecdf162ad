// What the reader looks at, and who is told when that changes.

const START = {
  output: 0,
  feature: null,
  method: "",
  kind: "",
  layer: 0,
  head: 0,
  query: 0,
  key: null,
};

/** The chosen output, feature, method, layer, head, query and key. */
export const view = {};

let listeners = [];

/** Look at another explanation: only its own panels are told of changes. */
export function startView(values) {
  listeners = [];
  Object.assign(view, START, values);
}

/** Call a function whenever the view, or the colors of the page, change. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Change what the reader looks at. */
export function change(values) {
  Object.assign(view, values);
  redraw(Object.keys(values));
}

/** Draw everything again; `names` are the parts of the view that changed. */
export function redraw(names) {
  for (const listener of listeners) listener(names);
}
