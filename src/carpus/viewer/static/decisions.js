// What was decided about the image that the pointer was over last, and how far one has come.

import { h } from "./page.js";

/** The sign of a verdict. */
export const SIGNS = { accept: "✓", reject: "✕", ignore: "–" };

/** The key of a verdict. */
export const KEYS = { accept: "a", reject: "r", ignore: "x" };

/**
 * What a verdict on the image would be about: bones that have a mask and no decision yet.
 *
 * @param areas pixels of every class in the folder's labels, or null
 * @returns {open, decided, absent}: names of bones; `decided` have a verdict whether they have a mask or not
 */
export function standing(classes, areas, marks) {
  const found = { open: [], decided: [], absent: [] };
  classes.forEach(({ name }, k) => found[marks[name] ? "decided" : areas?.[k] ? "open" : "absent"].push(name));
  return found;
}

/**
 * @param folder {folder, done, all, share, undo}: how many of its images are done, and which share of their bones
 * @param image {bone: the chosen one or "", bones: see `standing`, fault: why nothing can be decided, or "", awaited: whether its labels are on
 *   their way}
 * @param told {decide(verdict), undo()}
 */
export function decisions({ folder, done, all, share, undo }, { bone, bones, fault, awaited }, told) {
  const { open, decided } = bones, left = open.length ? `${decided.length ? "other" : "all"} ${open.length}` : "none left";
  const what = bone || (fault || awaited ? "all" : left);
  const button = (verdict) => {
    const key = KEYS[verdict].toUpperCase(), verb = `${verdict[0].toUpperCase()}${verdict.slice(1)}`;
    const about = bone || "every bone that has a mask and no verdict yet";
    return h("button", {
      class: `verdict ${verdict}`, title: `${verdict} ${about} (${key})`, "aria-label": `${verb} ${what}`,
      disabled: Boolean(fault) || awaited || (!bone && !open.length), onclick: () => told.decide(verdict),
    }, h("span", {}, verb, h("kbd", {}, key)), h("small", {}, what));
  };
  return h("div", { class: "decisions" },
    h("div", { class: "told" }, decided.length && !awaited ? `${decided.length} of ${decided.length + open.length} bones decided in ` : awaited ? "" : "nothing decided in ",
      h("em", { class: "folder" }, folder)),
    h("div", { class: "line" }, Object.keys(KEYS).map(button)),
    (fault || awaited || !bone) && h("div", { class: "told spared" }, fault || (awaited ? "the labels are on their way" : spared(bones))),
    h("div", { class: "line" },
      h("div", { class: "progress", role: "progressbar", "aria-valuenow": Math.round(100 * share), title: "bones that are decided" },
        h("i", { style: `width: ${100 * share}%` })),
      h("span", { class: "told", title: "images of the list whose bones are all decided" }, `${done} of ${all} images`),
      h("button", { disabled: !undo, title: "take the last decision back (U)", onclick: told.undo }, "Undo")));
}

/** Which bones a verdict on the image passes over. */
function spared({ open, decided, absent }) {
  const some = [decided.length && `${decided.length} decided`, absent.length && `${absent.length} without a mask`].filter(Boolean);
  if (!some.length) return "";
  return open.length ? `not touched: ${some.join(", ")}` : `nothing left: ${some.join(", ")}`;
}
