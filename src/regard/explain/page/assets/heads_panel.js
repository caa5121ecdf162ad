// Panel 3: heads. A thumbnail of every head, by what its removal changes.

import { choice, el, onWidth, tableTwin } from "./elements.js";
import { paintTiles } from "./matrix.js";
import { change, onChange, view } from "./view.js";
import { digits, label } from "./words.js";

const TILES = 40; // along a side of a thumbnail
const KIND_TITLES = { encoder: "encoder", decoder: "decoder", cross: "decoder reads encoder" };

/** Build the panel; the first map of the chosen kind must be open. */
export function headsPanel(explained) {
  const isMeasured = explained.maps.some((map) => map.effects.some((effect) => effect !== null));
  let isByEffect = isMeasured;
  const kinds = choice(
    "Attention",
    explained.kinds.map((kind) => ({
      value: kind,
      text: KIND_TITLES[kind] ?? kind,
    })),
    view.kind,
    async (kind) => {
      await openKind(explained, kind);
      if (root.isConnected) change({ kind, ...strongestHead(explained, kind) });
    },
  );
  const order = choice(
    "Order",
    [
      { value: "effect", text: "by effect" },
      { value: "number", text: "by number" },
    ],
    isByEffect ? "effect" : "number",
    (value) => {
      isByEffect = value === "effect";
      draw();
    },
  );
  const grid = el("div", { class: "heads" });
  const scroll = el("div", { class: "scroll" }, grid);
  const twin = tableTwin("Heads", () => tableRows(explained));
  const explanation = el("p", {
    class: "hint",
    text: isMeasured
      ? `The bar is what the outputs lose, in ${explained.hasProbabilities ? "log-probability" : explained.document.unit}, when the head is removed; orange: they gain.`
      : "The effect of removing a head was not measured.",
  });
  const root = el(
    "section",
    { class: "panel", id: "heads" },
    el("h2", {}, el("span", { class: "number", text: "3" }), el("span", { text: "Heads" })),
    el(
      "div",
      { class: "controls" },
      explained.kinds.length > 1 ? kinds : null,
      isMeasured ? order : null,
    ),
    scroll,
    explanation,
    twin,
  );
  let size = 0;
  const draw = () => {
    if (size) grid.replaceChildren(...headRows(explained, size, isByEffect));
  };
  onWidth(scroll, (width) => {
    const most = Math.max(...explained.maps.map((map) => map.heads), 1);
    size = Math.max(26, Math.min(64, Math.floor((width - 24) / most) - 10));
    draw();
  });
  grid.addEventListener("keydown", (event) => moveFocus(event, grid));
  onChange((names) => {
    kinds.choose(view.kind);
    const isOnlyChoice = names.length && names.every((name) => ["layer", "head"].includes(name));
    if (isOnlyChoice) markChosen(grid);
    else if (names.includes("kind") || names.includes("theme")) draw();
    twin.refresh();
  });
  return root;
}

/** Unpack the maps of a kind. */
export function openKind(explained, kind) {
  return Promise.all(explained.maps.filter((map) => map.kind === kind).map((map) => map.open()));
}

/** Return the head of a kind whose removal changes most. */
export function strongestHead(explained, kind) {
  let best = { layer: explained.maps.findIndex((map) => map.kind === kind), head: 0, effect: -1 };
  explained.maps.forEach((map, layer) => {
    if (map.kind !== kind) return;
    map.effects.forEach((effect, head) => {
      if (effect !== null && Math.abs(effect) > best.effect)
        best = { layer, head, effect: Math.abs(effect) };
    });
  });
  return { layer: best.layer, head: best.head };
}

function headRows(explained, size, isByEffect) {
  const layers = explained.maps
    .map((map, layer) => ({ map, layer }))
    .filter(({ map }) => map.kind === view.kind);
  const largest = Math.max(
    1e-12,
    ...layers.flatMap(({ map }) => map.effects.map((effect) => Math.abs(effect ?? 0))),
  );
  return layers.map(({ map, layer }, number) => {
    const heads = Array.from({ length: map.heads }, (_, head) => head);
    const strength = (head) => Math.abs(map.effects[head] ?? 0);
    if (isByEffect) heads.sort((one, two) => strength(two) - strength(one));
    return el(
      "div",
      { class: "head-row" },
      el("span", { class: "layer", text: number + 1, title: map.layer }),
      ...heads.map((head) => headButton(explained, map, layer, head, number, size, largest)),
    );
  });
}

function headButton(explained, map, layer, head, number, size, largest) {
  const canvas = el("canvas", {
    width: 2 * size,
    height: 2 * size,
    css: { width: `${size}px`, height: `${size}px` },
  });
  const [height, width] = [Math.min(TILES, map.queries), Math.min(TILES, map.keys)];
  const tiles = map.tiles(head, [0, map.queries, 0, map.keys], height, width, null);
  paintTiles(canvas, tiles, height, width, false);
  const effect = map.effects[head] ?? null;
  const isChosen = layer === view.layer && head === view.head;
  const sink = map.sinks[head];
  const name = `layer ${number + 1}, head ${head + 1}`;
  const facts = [
    name,
    effect === null ? null : `effect ${digits(effect)}`,
    sink ? `sink: ${label(explained.keyText(map, sink[0]))}` : null,
  ]
    .filter(Boolean)
    .join(", ");
  return el(
    "button",
    {
      type: "button",
      class: "head",
      title: facts,
      "aria-label": facts,
      "aria-pressed": isChosen,
      tabindex: isChosen ? 0 : -1,
      "data-layer": layer,
      "data-head": head,
      on: { click: () => change({ layer, head }) },
    },
    canvas,
    el(
      "span",
      { class: "head-foot" },
      el("span", { class: "head-name", text: head + 1 }),
      effect === null
        ? null
        : el(
            "span",
            { class: "effect" },
            el("span", {
              class: effect > 0 ? "bar negative" : "bar",
              css: { width: `${(100 * Math.abs(effect)) / largest}%` },
            }),
          ),
    ),
  );
}

function markChosen(grid) {
  for (const button of grid.querySelectorAll(".head")) {
    const { layer, head } = button.dataset;
    const isChosen = Number(layer) === view.layer && Number(head) === view.head;
    button.setAttribute("aria-pressed", isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  }
}

function moveFocus(event, grid) {
  const [down, across] = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, -1],
    ArrowRight: [0, 1],
  }[event.key] ?? [0, 0];
  const row = document.activeElement.closest(".head-row");
  if (!row || (!down && !across)) return;
  event.preventDefault();
  const rows = [...grid.children];
  const column = [...row.querySelectorAll(".head")].indexOf(document.activeElement);
  const target = rows[rows.indexOf(row) + down]?.querySelectorAll(".head")[column + across];
  if (!target) return;
  target.click();
  target.focus();
}

function tableRows(explained) {
  const rows = explained.maps.flatMap((map) =>
    Array.from({ length: map.heads }, (_, head) => {
      const sink = map.sinks[head];
      return [
        map.layer,
        map.kind,
        head + 1,
        map.pattern,
        digits(map.effects[head]),
        sink ? `${label(explained.keyText(map, sink[0]))} ${Math.round(100 * sink[1])} %` : "–",
      ];
    }),
  );
  return [["layer", "kind", "head", "pattern", "effect when removed", "sink"], ...rows];
}
