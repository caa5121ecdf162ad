// Elements of HTML and SVG. Text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Build an HTML element: `on` has listeners, `css` has styles, `text` its text. */
export function el(tag, { on = {}, css = {}, text, ...attributes } = {}, ...children) {
  return fill(document.createElement(tag), on, css, text, attributes, children);
}

/** Build an SVG element. */
export function svg(tag, { on = {}, css = {}, text, ...attributes } = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), on, css, text, attributes, children);
}

function fill(element, on, css, text, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    if (name.startsWith("aria-"))
      element.setAttribute(name, value); // true and false are words
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  for (const [name, value] of Object.entries(css)) element.style.setProperty(name, value);
  if (text !== undefined) element.textContent = text;
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Build a row of buttons of which one is chosen; arrow keys move the choice. */
export function choice(label, options, chosen, onChange) {
  const group = el("div", { class: "choice", role: "radiogroup", "aria-label": label });
  const values = options.map((option) => option.value);
  const choose = (value, hasFocus) => {
    for (const button of group.children) {
      const isChosen = button.dataset.value === String(value);
      button.setAttribute("aria-checked", isChosen);
      button.tabIndex = isChosen ? 0 : -1;
      if (isChosen && hasFocus) button.focus();
    }
  };
  for (const { value, text, title } of options) {
    group.append(
      el("button", {
        type: "button",
        role: "radio",
        text,
        title,
        "data-value": value,
        on: {
          click: () => {
            choose(value, false);
            onChange(value);
          },
        },
      }),
    );
  }
  group.addEventListener("keydown", (event) => {
    const step = arrowStep(event, false);
    if (!step) return;
    event.preventDefault();
    const index = values.findIndex(
      (value) => String(value) === document.activeElement.dataset.value,
    );
    const next = values[(index + step + values.length) % values.length];
    choose(next, true);
    onChange(next);
  });
  choose(chosen, false);
  group.choose = (value) => choose(value, false);
  return group;
}

/** Return the step that an arrow key means in a row of items: -1, 1 or 0. */
export function arrowStep(event, isRightToLeft) {
  if (event.altKey || event.ctrlKey || event.metaKey) return 0;
  const forward = isRightToLeft ? "ArrowLeft" : "ArrowRight";
  const backward = isRightToLeft ? "ArrowRight" : "ArrowLeft";
  if (event.key === forward || event.key === "ArrowDown") return 1;
  return event.key === backward || event.key === "ArrowUp" ? -1 : 0;
}

/** Draw what an element has again; what had the focus has it afterwards, by its `data-key`. */
export function keepFocus(root, draw) {
  const key = root.contains(document.activeElement)
    ? document.activeElement.dataset.key
    : undefined;
  draw();
  if (key !== undefined) {
    root.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
  }
}

/** Build the twin of a picture: a table, whose rows are made when it is first opened. */
export function tableTwin(caption, makeRows) {
  const details = el("details", { class: "twin" }, el("summary", { text: "As a table" }));
  const build = () => {
    const [header, ...rows] = makeRows();
    const head = el(
      "tr",
      {},
      ...header.map((text) => el("th", { scope: "col", dir: "auto", text })),
    );
    const body = rows.map(([first, ...cells]) =>
      el(
        "tr",
        {},
        el("th", { scope: "row", dir: "auto", text: first }),
        ...cells.map((text) => el("td", { dir: "auto", text })),
      ),
    );
    details.querySelector("div")?.remove();
    details.append(
      el(
        "div",
        { class: "scroll", tabindex: 0 },
        el(
          "table",
          {},
          el("caption", { text: caption }),
          el("thead", {}, head),
          el("tbody", {}, ...body),
        ),
      ),
    );
  };
  details.addEventListener("toggle", () => details.open && build());
  details.refresh = () => details.open && build();
  return details;
}

/** Mark an element whose end is out of sight, and call a function with whether it is. */
export function onScroll(element, use) {
  const look = () => {
    const hidden = element.scrollWidth - element.clientWidth - Math.abs(element.scrollLeft);
    element.classList.toggle("has-more", hidden > 4);
    use(hidden > 4);
  };
  element.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(element);
  new MutationObserver(look).observe(element, { childList: true });
}

/** Call a function with the width of an element, whenever that changes. */
export function onWidth(element, draw) {
  let last = 0;
  const observer = new ResizeObserver(() => {
    const width = Math.floor(element.clientWidth);
    if (width > 0 && width !== last) {
      last = width;
      draw(width);
    }
  });
  observer.observe(element);
}
