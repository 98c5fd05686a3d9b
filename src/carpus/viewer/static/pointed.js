// What is under the pointer: its place and grey level below, and the names of all bones beside it.

import { h } from "./page.js";
import { bitsOf } from "./picture.js";
import { why } from "./selection.js";

/**
 * @param x, y label pixels of `picture`
 * @param at the same on its canvas; null where the pointer has left it
 */
export function pointed(bench, picture, x, y, at) {
  const { tip, status } = bench.parts;
  if (at) bench.attend(bench.pictures.indexOf(picture));
  const inside = picture.image && at && x >= 0 && y >= 0 && x < picture.image.width && y < picture.image.height;
  const where = status.querySelector(".where");
  tip.hidden = true;
  if (!inside) {
    where.textContent = "";
    return;
  }
  const [column, row] = [Math.floor(x), Math.floor(y)];
  where.textContent = `x ${column}  y ${row}  grey ${Math.round(picture.image.shade(picture.image.grey[row * picture.image.width + column]))}`;
  const [first, second] = picture.bits(x, y);
  if (!(first | second)) return;
  tip.replaceChildren(...bitsOf(first | second).map((k) => named(bench, picture, k, (first >>> k) & 1, (second >>> k) & 1)));
  tip.hidden = false;
  const { left, top } = bench.parts.stage.getBoundingClientRect(), over = picture.canvas.getBoundingClientRect();
  const room = over.left - left + at[0] + 16 + tip.offsetWidth < bench.parts.stage.clientWidth;
  tip.style.left = `${over.left - left + at[0] + (room ? 16 : -16 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.min(over.top - top + at[1] + 12, bench.parts.stage.clientHeight - tip.offsetHeight - 6)}px`;
}

/** A bone with what is to be said of it: why it was left out, or which labels alone have it here. */
function named({ data, focus }, picture, k, inFirst, inSecond) {
  const { name, colour } = data.classes[k], pane = data.panes[focus], judged = pane?.found?.bones[name];
  const alone = !picture.first || !picture.second || (inFirst && inSecond) ? "" : `only in ${inFirst ? data.first : data.second}`;
  const told = judged && !judged.kept ? why(judged, pane.marks[name]) : alone;
  return h("div", {}, h("i", { style: `background: ${colour}` }), name, told && h("small", {}, told));
}
