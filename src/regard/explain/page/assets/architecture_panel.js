// Panel 6: architecture. The diagram of this model, and what it is.

import { el, onScroll } from "./elements.js";
import { count } from "./words.js";

/** Build the panel. */
export function architecturePanel(explained) {
  const { model } = explained.document;
  const facts = [
    model.family,
    `trained for ${model.task.replaceAll("_", " ")}`,
    count(model.num_parameters, "parameter"),
  ];
  const picture = model.picture
    ? el("img", {
        class: "diagram",
        src: `data:image/svg+xml;base64,${toBase64(model.picture)}`,
        alt: model.diagram || "Architecture of the model",
      })
    : el("pre", { class: "diagram", text: model.diagram });
  const box = el("div", { class: "scroll diagram-box", tabindex: 0, "aria-label": "Diagram" }, picture);
  const more = el("p", { class: "hint" });
  onScroll(box, (hasMore) => {
    more.textContent = hasMore ? "More of the diagram follows: scroll to the side." : "";
  });
  return el(
    "section",
    { class: "panel", id: "architecture" },
    el("h2", {}, el("span", { class: "number", text: "6" }), el("span", { text: "Architecture" })),
    el("p", { class: "note", text: `${facts.join(" · ")}.` }),
    box,
    more,
  );
}

/** Return a text in base64, as UTF-8. */
export function toBase64(text) {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) {
    binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  }
  return btoa(binary);
}
