// The list of images on the left.

import { SIGNS } from "./decisions.js";
import { badness, h, score } from "./page.js";

/** The rows as elements; see `Row` of workbench.py. */
export function rows(data, go) {
  return h("div", { class: "rows", role: "listbox", "aria-label": "images" }, data.rows.map(([place, name, dice, mark, out, , , bone]) => {
    const cut = name.lastIndexOf("/");
    return h("button", { class: "row", role: "option", "data-place": place, title: name, onclick: () => go(place) },
      h("span", { class: "patient" }, name.slice(0, Math.max(0, cut))),
      h("span", { class: cut < 0 ? "base alone" : "base" }, h("bdi", {}, name.slice(cut + 1))),
      h("span", { class: "number" },
        out && h("span", { class: "out", title: "bones that carpus pseudo left out" }, out), mark && decided(mark),
        h("span", { style: badness(dice) }, bone && h("small", {}, bone, " "), dice === null ? "" : score(dice))));
  }));
}

/** Mark the rows that are shown, and bring the first of them into sight. */
export function select(rail, data, at) {
  for (const row of rail.querySelectorAll(".row")) {
    const on = data.panes.some(({ place }) => String(place) === row.dataset.place);
    row.setAttribute("aria-selected", String(on));
    if (on && Number(row.dataset.place) === at) row.scrollIntoView({ block: "nearest" });
  }
  const place = data.rows.findIndex(([of]) => of === at);
  rail.querySelector(".count").textContent = `${place + 1} of ${data.rows.length}`;
}

/** "3/29" bones decided so far, or the verdict on all of them. */
function decided(mark) {
  const sign = mark === "mixed" ? Object.values(SIGNS).slice(0, 2).join("") : SIGNS[mark];
  const title = !sign ? `${mark} bones decided` : mark === "mixed" ? "decided: not all alike" : `all bones: ${mark}`;
  return h("span", { class: `mark ${sign ? mark : "part"}`, title }, sign || mark);
}
