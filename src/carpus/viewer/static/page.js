// Elements in few words.

/** h("b", {class: "x", onclick: f}, "text", child): an element; text is never taken for markup. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element[name] = value;
    else if (name === "style") element.style.cssText = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put other children into an element; what of the same name had the focus has it again. */
export function renew(element, ...children) {
  const name = (of) => of?.getAttribute("aria-label") || of?.title || of?.textContent;
  const focused = element.getRootNode().activeElement, held = element.contains(focused) && name(focused);
  element.replaceChildren(...children);
  if (held) [...element.querySelectorAll("button, summary, input")].find((one) => name(one) === held)?.focus({ preventScroll: true });
}

/** A row of buttons of which one is on: options are [value, text, title]. */
export function choice(name, options, value, changed) {
  const buttons = options.map(([of, text, title]) =>
    h("button", { "data-value": of, title, "aria-pressed": String(of === value), onclick: () => changed(of) }, text));
  return h("div", { class: "choice", role: "group", "aria-label": name }, buttons);
}

/** A slider with its name before and its value behind. */
export function slider(name, { min, max, step, value, shown = String, title }, changed) {
  const output = h("output", {}, shown(value));
  const input = h("input", {
    type: "range", min, max, step, value, "aria-label": name,
    oninput: () => {
      output.textContent = shown(+input.value);
      changed(+input.value);
    },
  });
  return h("label", { class: "slider", title }, h("span", {}, name), input, output);
}

export const score = (value, digits = 3) =>
  value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);

/** From red over yellow to nothing: how bad a Dice is. */
export function badness(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  const bad = Math.min(1, Math.max(0, (0.97 - value) / 0.12));
  return bad <= 0 ? "" : `color: hsl(${Math.round(48 - 44 * bad)} 92% ${Math.round(72 - 6 * bad)}%)`;
}
