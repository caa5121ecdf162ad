// The page as a file: one explanation, which is part of it.

import { el } from "./elements.js";
import { Header, openExplanation, showExplanation, watchTheme } from "./show.js";

async function start() {
  watchTheme();
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const explained = await openExplanation(payload);
  const { model } = explained.document;
  const header = new Header(model, [["Privacy", "Nothing leaves this page: it has no network."]]);
  header.show(model, explained);
  const root = el("div");
  document.getElementById("main").append(header.root, root);
  await showExplanation(explained, root);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  document.getElementById("main").replaceChildren(
    el("p", {
      text: `This browser could not draw the page (${error.message}). It needs one of 2023 or later.`,
    }),
  );
  throw error;
});
