// One radiograph with its bones on a canvas: what is drawn, and what is under the pointer.

import { departures } from "./borders.js";
import { outline } from "./labels.js";
import { listen } from "./pointer.js";
import { Doubt } from "./selection.js";

const SMALLEST = 0.05, LARGEST = 40;
const STRIPE = 5; // log2 of label pixels: where bones overlap, stripes in the colours of all of them
const BOTH_WRONG = 0xffff50ff; // taken for another bone: missed in one and made up in the other

/** Borders on which both label maps agree. */
export const AGREED = "#b4bec8";

export class Picture {
  /** @param told {hover(picture, x, y, at or null), chosen(picture, bits), moved(picture), window(dx, dy)} */
  constructor(canvas, told) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.told = told;
    this.image = null; // what `packets.image` gives
    this.first = this.second = null; // what `unpack` gives
    this.toned = document.createElement("canvas");
    this.doubt = new Doubt();
    this.fills = { first: document.createElement("canvas"), second: document.createElement("canvas") };
    this.place = { x: 0, y: 0, scale: 1 };
    this.fitted = true;
    this.moving = false;
    this.divider = 0.5;
    this.stale = { tone: true, fills: true };
    listen(this);
  }

  show(image, first, second) {
    const same = this.image && image && this.image.width === image.width && this.image.height === image.height;
    Object.assign(this, { image, first, second });
    this.doubt.set(null);
    this.stale = { tone: true, fills: true };
    if (!same || this.fitted) this.fit();
    else this.draw();
  }

  /** Lay label maps over the image that is shown. */
  label(first, second) {
    Object.assign(this, { first, second });
    this.stale.fills = true;
    this.draw();
  }

  /** Change how it is drawn; see `workbench.js` for what `look` holds. */
  set(look) {
    const before = this.look || {};
    this.look = look;
    this.stale.tone ||= ["low", "high", "gamma", "invert"].some((name) => before[name] !== look[name]);
    this.stale.fills ||= ["mask", "compare", "style", "chosen"].some((name) => before[name] !== look[name]);
    this.draw();
  }

  fit() {
    this.fitted = true;
    if (this.image) this.zoomTo({ left: 0, top: 0, right: this.image.width, bottom: this.image.height }, 1);
  }

  /** Bring a box of label pixels into sight, with room around it. */
  zoomTo(box, room = 1.5) {
    const width = (box.right - box.left) * room, height = (box.bottom - box.top) * room;
    const { clientWidth, clientHeight } = this.canvas;
    const scale = Math.min(clientWidth / width, clientHeight / height) || 1;
    this.move((box.left + box.right) / 2, (box.top + box.bottom) / 2, scale);
  }

  /** Put (x, y) of the label map into the middle, `scale` screen pixels a label pixel. */
  move(x, y, scale) {
    this.place = { x, y, scale: Math.min(LARGEST, Math.max(SMALLEST, scale)) };
    this.told.moved(this);
    this.draw();
  }

  zoom(factor, at = null) {
    this.fitted = false;
    const { x, y, scale } = this.place;
    const next = Math.min(LARGEST, Math.max(SMALLEST, scale * factor));
    const [px, py] = at ? this.under(at) : [x, y];
    this.move(px + ((x - px) * scale) / next, py + ((y - py) * scale) / next, next);
  }

  /** From a place on the canvas to label pixels. */
  under([left, top]) {
    const { x, y, scale } = this.place;
    return [x + (left - this.canvas.clientWidth / 2) / scale, y + (top - this.canvas.clientHeight / 2) / scale];
  }

  /** The bits of both label maps at a label pixel. */
  bits(x, y) {
    const [column, row] = [Math.floor(x), Math.floor(y)];
    return [this.first, this.second].map((labels) =>
      labels && column >= 0 && row >= 0 && column < labels.width && row < labels.height
        ? labels.words[row * labels.width + column] & this.look.mask
        : 0,
    );
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!width || !height || (this.canvas.width === width && this.canvas.height === height)) return;
    Object.assign(this.canvas, { width, height });
    if (this.fitted) this.fit();
    else this.draw();
  }

  draw() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = null;
      this.paint();
    });
  }

  paint() {
    const { context, canvas, look, image } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!image || !look) return;
    if (this.stale.tone) this.tone();
    if (this.stale.fills) this.fill();
    const ratio = canvas.width / canvas.clientWidth, scale = this.place.scale * ratio;
    context.setTransform(
      scale, 0, 0, scale, canvas.width / 2 - this.place.x * scale, canvas.height / 2 - this.place.y * scale);
    context.imageSmoothingEnabled = scale < 4;
    context.imageSmoothingQuality = this.moving ? "low" : "high";
    context.drawImage(this.toned, 0, 0);
    if (look.doubt && !look.bare) this.doubt.paint(context, ratio);
    if (look.bare || look.style === "none") return;
    for (const [side, from, to] of this.sides()) {
      context.save();
      if (from > 0 || to < 1) {
        const [left, top] = this.under([from * canvas.clientWidth, 0]);
        const [right, bottom] = this.under([to * canvas.clientWidth, canvas.clientHeight]);
        context.beginPath();
        context.rect(left, top, right - left, bottom - top);
        context.clip();
      }
      this.paintSide(side, scale, ratio);
      context.restore();
    }
    // From afar an outline is as wide as what is in doubt beneath it.
    if (look.doubt && scale < 2 * ratio) this.doubt.paint(context, ratio);
    if (look.compare === "swipe" && this.first && this.second) this.paintDivider(ratio);
  }

  /** What is drawn, and between which shares of the width. */
  sides() {
    const { first, second } = this;
    if (!first || !second) return first ? [["first", 0, 1]] : second ? [["second", 0, 1]] : [];
    const { compare, blinked } = this.look;
    if (compare === "swipe") return [["first", 0, this.divider], ["second", this.divider, 1]];
    if (compare === "blink") return [[blinked ? "second" : "first", 0, 1]];
    return [[compare, 0, 1]];
  }

  paintSide(side, scale, ratio) {
    const { context, look } = this;
    const differ = side === "difference";
    if (look.style === "fill") {
      // A difference is mostly thin, and would be overlooked.
      context.globalAlpha = differ ? Math.min(1, look.opacity * 1.6) : look.opacity;
      context.imageSmoothingEnabled = scale < 1;
      context.drawImage(this.fills[side === "second" ? "second" : "first"], 0, 0);
      context.globalAlpha = 1;
    }
    const width = (ratio * (look.style === "fill" ? 1.1 : 1.5)) / scale;
    const coarse = scale < 1.2, whole = (labels, colour) => (k) => [[outline(labels, k, coarse), colour || look.colours[k]]];
    if (!differ) this.strokes(this[side], width, whole(this[side], null));
    else if (look.style === "fill") this.strokes(this.first, width, whole(this.first, AGREED));
    else this.strokeDifference(width, coarse);
  }

  /** Borders in the colours of what they enclose: missed, made up, or neither where both label maps agree. */
  strokeDifference(width, coarse) {
    const { first, second, look } = this;
    const held = (own, other, outside, inside, agreed) => (k) => {
      const of = departures(own, other, k, look.tolerance, coarse);
      return [agreed && [of.agreed, AGREED], [of.outside, outside], [of.inside, inside]].filter(Boolean);
    };
    this.strokes(first, width, held(first, second, look.truth, look.prediction, true));
    this.strokes(second, width, held(second, first, look.prediction, look.truth, false));
  }

  /** @param paths the [path, colour] of class k */
  strokes(labels, width, paths) {
    const { context, look } = this;
    const [left, top] = this.under([0, 0]), [right, bottom] = this.under([this.canvas.clientWidth, this.canvas.clientHeight]);
    context.lineJoin = "round";
    for (let k = 0; k < labels.count; k++) {
      const box = labels.boxes[k];
      if (!((look.mask >>> k) & 1) || !box) continue;
      if (box.right < left || box.left > right || box.bottom < top || box.top > bottom) continue;
      const picked = look.chosen === k || (look.also >>> k) & 1;
      context.globalAlpha = look.chosen < 0 || picked ? 1 : 0.35;
      context.lineWidth = width * (picked ? 1.7 : 1);
      for (const [path, colour] of paths(k)) {
        context.strokeStyle = colour;
        context.stroke(path);
      }
    }
    context.globalAlpha = 1;
  }

  paintDivider(ratio) {
    const { context, canvas } = this, at = this.divider * canvas.width;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "rgba(255,255,255,.85)";
    context.fillRect(at - ratio / 2, 0, ratio, canvas.height);
    context.beginPath();
    context.arc(at, canvas.height / 2, 9 * ratio, 0, 7);
    context.fill();
    context.fillStyle = "#0e1114";
    context.font = `${11 * ratio}px system-ui`;
    context.textAlign = "center";
    context.fillText("⇆", at, canvas.height / 2 + 4 * ratio);
    // Which labels are on which side.
    const { first, second } = this.look.layers;
    context.font = `${12.5 * ratio}px system-ui`;
    context.fillStyle = "#fff";
    Object.assign(context, { shadowColor: "#000", shadowBlur: 4 * ratio });
    for (const [name, align, aside] of [[first, "right", -12], [second, "left", 12]]) {
      context.textAlign = align;
      context.fillText(name, at + aside * ratio, canvas.height - 12 * ratio);
    }
    context.shadowBlur = 0;
  }

  /** The image through window, gamma and inversion. */
  tone() {
    const { image, toned, look } = this;
    this.stale.tone = false;
    if (toned.width !== image.width || toned.height !== image.height)
      Object.assign(toned, { width: image.width, height: image.height });
    const table = new Uint32Array(image.top + 1);
    for (let level = 0; level <= image.top; level++) {
      const share = Math.min(1, Math.max(0, (image.shade(level) - look.low) / Math.max(1, look.high - look.low)));
      const bright = Math.round(255 * (look.invert ? 1 - share ** (1 / look.gamma) : share ** (1 / look.gamma)));
      table[level] = 0xff000000 | (bright << 16) | (bright << 8) | bright;
    }
    const context = toned.getContext("2d");
    const pixels = context.createImageData(image.width, image.height);
    const colours = new Uint32Array(pixels.data.buffer);
    const { grey } = image;
    for (let i = 0; i < grey.length; i++) colours[i] = table[grey[i]];
    context.putImageData(pixels, 0, 0);
  }

  /** The insides of the bones, at label resolution. */
  fill() {
    this.stale.fills = false;
    const { first, second, look } = this;
    if (look.style !== "fill") return;
    if (look.compare === "difference" && first && second) this.colour("first", [first, second], (word, other) => {
      const missed = word & ~other, added = other & ~word;
      if (!missed && !added) return 0;
      return missed && added ? BOTH_WRONG : missed ? look.truthWord : look.predictionWord;
    });
    else
      for (const side of ["first", "second"])
        if (this[side]) this.colour(side, [this[side], this[side]], (word, _, stripe) => {
          if (!word) return 0;
          if (!(word & (word - 1))) return look.words[31 - Math.clz32(word)];
          // Several bones: the stripes take turns.
          const bones = bitsOf(word);
          return look.words[bones[stripe % bones.length]];
        });
  }

  colour(side, [first, second], ofPixel) {
    const canvas = this.fills[side], { width, height } = first;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const box = around([...first.boxes, ...second.boxes]);
    if (!box) return;
    const pixels = context.createImageData(box.right - box.left, box.bottom - box.top);
    const colours = new Uint32Array(pixels.data.buffer);
    // Of a chosen bone the difference is shown alone.
    const { chosen, compare } = this.look, alone = compare === "difference" && chosen >= 0 && first !== second;
    const mask = alone ? 1 << chosen : this.look.mask;
    let to = 0;
    for (let y = box.top; y < box.bottom; y++) {
      for (let x = box.left, at = y * width + box.left; x < box.right; x++, at++, to++) {
        const word = first.words[at] & mask, other = second.words[at] & mask;
        if (word | other) colours[to] = ofPixel(word, other, ((x + y) * 5) >> STRIPE);
      }
    }
    context.putImageData(pixels, box.left, box.top);
  }
}

/** The places of the bits of a word, lowest first. */
export function bitsOf(word) {
  const found = [];
  for (let left = word; left; left &= left - 1) found.push(31 - Math.clz32(left & -left));
  return found;
}

/** The box around boxes; null where there is none. */
export function around(boxes) {
  const there = boxes.filter(Boolean);
  if (!there.length) return null;
  return {
    left: Math.min(...there.map((box) => box.left)),
    top: Math.min(...there.map((box) => box.top)),
    right: Math.max(...there.map((box) => box.right)),
    bottom: Math.max(...there.map((box) => box.bottom)),
  };
}
