// What `carpus pseudo` found: why bones were left out, pixels of which nobody is sure, where the labels come from.

import { unpack } from "./labels.js";
import { fetched } from "./packets.js";
import { h } from "./page.js";

/** What is said of a bone that was left out and then accepted, which makes it count. */
const ACCEPTED = "left out by the selection, accepted";

const PERIOD = 5; // of the hatching, in screen pixels

/** Why a bone was left out, in a word, or that somebody took it back in; nothing for one that is kept. */
export const mark = (found, verdict) =>
  found && !found.kept && h("span", { class: "out" }, verdict === "accept" ? ACCEPTED : found.reasons.join(", ") || "left out");

/** The same with its numbers; of one that is kept, too. */
export const why = (found, verdict) => (found && !found.kept && verdict === "accept" ? ACCEPTED : found?.why);

/**
 * What is known of the chosen bone, or of the image, and of the folder.
 *
 * @param shown {selection, found, chosen: name or "", verdict: on the chosen bone, doubt, open}
 * @param told {doubt(on), open(on)}
 */
export function box({ selection, found, chosen, verdict, doubt, open }, told) {
  const bone = found?.bones[chosen];
  return h("div", { class: "selection" },
    h("div", { class: "line told" },
      h("span", { class: "grow" }, bone ? `${chosen}: ${why(bone, verdict)}` : found ? found.summary : "no pseudo-label of this image"),
      found && h("button", {
        "aria-pressed": String(doubt), title: "hatch the pixels of which nobody is sure (D)", onclick: () => told.doubt(!doubt),
      }, "Doubt")),
    bone && h("div", { class: "measures" }, bone.measures.map(measure)),
    h("details", { open, ontoggle: (event) => told.open(event.target.open) },
      h("summary", { title: "where these labels come from" }, h("em", {}, selection.layer), ` ${selection.summary}`),
      selection.advice && h("p", {}, selection.advice),
      selection.sources.map(({ path, hash, hashes, seen }) => h("p", { title: `${path}\n${hashes}` },
        h("em", {}, path.split("/").pop()), " ", h("code", {}, hash), `, ${seen}`)),
      selection.made && h("p", {}, selection.made)));
}

const measure = ({ name, meaning, value, limit, against }) =>
  h("div", { class: against ? "against" : "", title: meaning }, h("span", {}, name), h("b", {}, value), h("small", {}, limit.replace(" ", "")));

/** Fetch the pixels of which nobody is sure for what is shown, unless `stale()`. */
export async function fetchDoubt({ selection, panes }, pictures, stale) {
  await Promise.all(panes.map(async ({ place, found }, n) => {
    const address = `/carpus/doubt/${place}?layer=${encodeURIComponent(selection.layer)}`;
    const buffer = found && (await fetched(address).catch(() => null)); // the list of bones says what is wrong with the file
    if (stale()) return;
    pictures[n].doubt.set(buffer ? unpack(buffer) : null);
    pictures[n].draw();
  }));
}

/** Pixels of which nobody is sure, hatched in black and white, which no bone and no difference is. */
export class Doubt {
  constructor() {
    this.there = false;
    this.mask = document.createElement("canvas");
    this.layer = document.createElement("canvas");
  }

  /** @param labels what `unpack` gives, of one class, or null */
  set(labels) {
    this.there = Boolean(labels?.areas[0]);
    if (!this.there) return;
    const { mask } = this, { width, height, words } = labels;
    Object.assign(mask, { width, height });
    const context = mask.getContext("2d"), pixels = context.createImageData(width, height);
    const opaque = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < words.length; i++) if (words[i]) opaque[i] = 0xff000000;
    context.putImageData(pixels, 0, 0);
  }

  /** Hatch them on a canvas whose transform is that of label pixels. */
  paint(target, ratio) {
    if (!this.there) return;
    const { layer, mask } = this, { width, height } = target.canvas;
    if (layer.width !== width || layer.height !== height) Object.assign(layer, { width, height });
    const context = layer.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, width, height);
    context.setTransform(target.getTransform());
    context.imageSmoothingEnabled = context.getTransform().a < 1;
    context.drawImage(mask, 0, 0);
    // The stripes are of the screen, so that they look alike at every zoom.
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = stripes(context, ratio);
    context.fillRect(0, 0, width, height);
    target.save();
    target.setTransform(1, 0, 0, 1, 0, 0);
    target.drawImage(layer, 0, 0);
    target.restore();
  }
}

function stripes(context, ratio) {
  const side = Math.round(PERIOD * ratio), tile = document.createElement("canvas");
  Object.assign(tile, { width: side, height: side });
  const pixels = tile.getContext("2d").createImageData(side, side), colours = new Uint32Array(pixels.data.buffer);
  // Down to the right, where overlaps are striped down to the left.
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++) colours[y * side + x] = (x - y + side) % side < side / 2 ? 0xffffffff : 0xff000000;
  tile.getContext("2d").putImageData(pixels, 0, 0);
  return context.createPattern(tile, "repeat");
}
