// The line of controls above the pictures, and the one of facts below them.

import { choice, h, slider } from "./page.js";
import { AGREED } from "./picture.js";

export const PLAIN = { low: 0, high: 255, gamma: 1, invert: false, opacity: 0.35 };

const KEYS = [
  ["← →", "the image before, the next one"], ["↑ ↓", "the bone before, the next one"], ["O", "outlines, fills, nothing"],
  ["C", "what is compared"], ["Space", "hold: the bare image"], ["I", "invert"], ["D", "pixels in doubt"], ["F", "whole image"],
  ["Z", "zoom to the chosen bone"], ["A R X", "accept, reject, ignore: the chosen bone, or all that have a mask and no verdict"],
  ["U", "undo the last decision"], ["N P", "the next image, the one before, on which bones have no verdict"], ["Esc", "no bone chosen, all bones shown"],
];

/**
 * @param told {step(by), look(changes), tone(changes), fit(), actual(), help()}; `tone` while a slider is held
 */
export function controls({ data, view, open, range }, told) {
  const alone = data.rows.length < 2;
  return [
    h("button", { class: "icon", title: "the image before (←)", onclick: () => told.step(-1), "aria-label": "previous", disabled: alone }, "‹"),
    h("button", { class: "icon", title: "the next image (→)", onclick: () => told.step(1), "aria-label": "next", disabled: alone }, "›"),
    choice("labels", [["outline", "Outline"], ["fill", "Fill"], ["none", "Off"]], view.style, (style) => told.look({ style })),
    ...(data.first && data.second ? [choice("compare", [
      ["first", data.first], ["second", data.second], ["difference", "Difference", "what is missed and what is made up"],
      ["swipe", "Swipe", "drag the line"], ["blink", "Blink"]], view.compare, (compare) => told.look({ compare }))] : []),
    h("details", { class: "tone", open, ontoggle: (event) => told.open(event.target.open) },
      h("summary", {}, "Tone"), h("div", { class: "sheet" }, tones(view, range, told))),
    h("span", { class: "grow" }),
    h("button", { title: "the whole image (F)", onclick: told.fit }, "Fit"),
    h("button", { title: "a label pixel is a screen pixel", onclick: told.actual }, "1:1"),
    h("button", { class: "icon", title: "keys (?)", onclick: told.help, "aria-label": "keys" }, "?"),
  ];
}

function tones(view, { darkest, brightest }, told) {
  return [
    slider("darkest", { min: darkest, max: brightest - 2, step: 1, value: view.low },
      (low) => told.tone({ low, high: Math.min(brightest, Math.max(view.high, low + 2)) })),
    slider("brightest", { min: darkest + 2, max: brightest, step: 1, value: view.high },
      (high) => told.tone({ high, low: Math.max(darkest, Math.min(view.low, high - 2)) })),
    slider("gamma", { min: 0.3, max: 3, step: 0.05, value: view.gamma, shown: (n) => n.toFixed(2) }, (gamma) => told.tone({ gamma })),
    slider("opacity", { min: 0, max: 1, step: 0.05, value: view.opacity, shown: (n) => n.toFixed(2) },
      (opacity) => told.tone({ opacity })),
    h("div", { class: "line" },
      h("button", { "aria-pressed": String(view.invert), onclick: () => told.look({ invert: !view.invert }) }, "Invert"),
      h("button", { onclick: () => told.look({ ...PLAIN }) }, "Reset")),
    h("p", {}, "Drag with the right button or Shift: sideways the width of the window, up and down its level."),
  ];
}

/** What the colours mean, and what is known of the image. */
export function facts({ data, view, pane, compared }) {
  const keys = compared && view.compare === "difference" && view.style !== "none"
    ? [["agreed", AGREED], ["missed", data.truth], ["made up", data.prediction],
      ...(view.style === "fill" ? [["taken for another", "#ff50ff"]] : [])] : [];
  // Of an image that cannot be read nothing is known, and the picture says why.
  const known = pane?.size[0] > 0;
  const size = known && `${pane.size[1]} × ${pane.size[0]}${pane.assumed ? ", size assumed (--size)" : ""}`;
  const told = known ? [size, pane.spacing && millimetres(pane.spacing), pane.told].filter(Boolean).join("  ·  ") : "";
  return [
    h("span", { class: "where" }), h("span", { class: "grow" }),
    ...keys.map(([name, colour]) => h("span", { class: "key" }, h("i", { style: `background: ${colour}` }), name)),
    h("span", { class: "told", title: told }, told),
  ];
}

/** How large a pixel is: [down, across] in mm. */
export function millimetres(spacing) {
  const [down, across] = spacing.map((mm) => mm.toFixed(3));
  return down === across ? `${down} mm a pixel` : `${across} mm across, ${down} mm down a pixel`;
}

/** All keys. */
export const help = () => [
  h("h3", {}, "Keys"), h("dl", {}, KEYS.flatMap(([key, told]) => [h("dt", {}, key), h("dd", {}, told)])),
  h("p", {}, "Wheel: zoom. Drag: move. Click: choose the bone under the pointer, again for the one beneath. Double click: zoom to it."),
];
