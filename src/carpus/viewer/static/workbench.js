// The workbench: the list of images, one or two of them, and the list of bones.
//
// Whatever only changes how something is drawn happens here, at once. Which image, and what is decided, is told to
// Streamlit, which answers with new data. The address always holds what is shown; see `view.py` for its words.

import * as address from "./address.js";
import * as bars from "./bar.js";
import { Judging } from "./judging.js";
import * as keys from "./keys.js";
import { fill } from "./loading.js";
import * as packets from "./packets.js";
import { h, renew } from "./page.js";
import { around, bitsOf, Picture } from "./picture.js";
import { pointed } from "./pointed.js";
import * as rails from "./rail.js";
import * as selections from "./selection.js";
import { side } from "./side.js";
import * as steps from "./steps.js";

const BLINK_MS = 650;

const benches = new WeakMap();

/** How pictures were drawn when a page was left, and how Python had it then: coming back changes nothing of it. */
let left = null;

export default function (component) {
  const { parentElement } = component;
  let bench = benches.get(parentElement);
  if (!bench) benches.set(parentElement, (bench = new Workbench(parentElement)));
  bench.update(component);
  return () => {
    bench.end();
    benches.delete(parentElement);
  };
}

class Workbench {
  constructor(parent) {
    this.view = null;
    this.blinked = this.bare = false;
    this.pictures = [];
    this.focus = 0;
    this.judging = new Judging(this);
    this.unheard = []; // what was told and not answered yet
    const root = (this.root = parent.querySelector(".workbench"));
    this.parts = Object.fromEntries(
      ["rail", "bar", "stage", "status", "side", "tip", "help", "empty"].map((name) => [name, h("div", { class: name })]));
    const { rail, bar, stage, status, side, tip, help, empty } = this.parts;
    root.replaceChildren(rail, h("div", { class: "middle" }, bar, stage, status), side);
    stage.append(tip, empty);
    empty.append("No image passes the filters.", h("button", { onclick: () => this.tell({ clear: true }) }, "Clear filters"));
    root.append(help);
    help.hidden = tip.hidden = empty.hidden = true;
    this.sizes = new ResizeObserver(() => this.pictures.forEach((picture) => picture.resize()));
    this.ending = new AbortController();
    window.addEventListener("pointerdown", (event) => {
      const tone = bar.querySelector("details");
      if (tone && !event.composedPath().includes(tone)) tone.removeAttribute("open");
    }, { capture: true, signal: this.ending.signal });
    keys.listen(this, root, this.ending.signal);
    this.timer = setInterval(() => {
      if (this.view?.compare !== "blink" || document.hidden) return;
      this.blinked = !this.blinked;
      this.look({});
    }, BLINK_MS);
  }

  end() {
    if (this.data) left = { given: this.data.view, view: this.view };
    this.ending.abort();
    this.sizes.disconnect();
    clearInterval(this.timer);
  }

  update({ data: [data], setTriggerValue }) {
    this.send = (messages) => setTriggerValue("asked", messages);
    const before = this.data;
    this.data = data;
    this.unheard = this.unheard.filter(({ n }) => n > data.heard);
    this.view ||= address.opened(data, left);
    const near = JSON.stringify([data.chosen, data.near]), moved = near !== this.near_;
    if (moved && (before || data.near.length)) {
      this.view.chosen = this.index(data.chosen);
      this.view.also = data.near.reduce((bits, name) => bits | (1 << this.index(name)), 0);
    }
    this.near_ = near;
    const key = JSON.stringify([data.panes.map(({ place }) => place), data.first, data.second]);
    const fresh = key !== this.key_;
    if (fresh) this.focus = Math.max(0, data.panes.findIndex(({ name }) => name === data.case));
    this.root.classList.toggle("deciding", Boolean(data.deciding));
    this.root.classList.toggle("narrow", Boolean(data.narrow));
    this.rail();
    this.bar();
    if (fresh) {
      this.key_ = key;
      this.load();
    } else if (moved && before) {
      this.look({});
      this.side();
      this.approach();
    } else this.side();
    this.remember();
  }

  /** Bring the bones near that are picked out together. */
  approach() {
    const bones = this.data.near.map((name) => this.index(name));
    if (bones.length) this.zoomTo(...bones);
  }

  /** Tell Streamlit. Of messages that come while it is busy it keeps the last, so that one brings those before it. */
  tell(what) {
    const n = Math.max(Date.now(), this.data.heard + 1, (this.unheard.at(-1)?.n || 0) + 1);
    this.unheard.push({ ...what, n });
    this.send(this.unheard);
  }

  index(name) {
    return this.data.classes.findIndex((each) => each.name === name);
  }

  /** Put what is shown into the address. */
  remember() {
    clearTimeout(this.remembering);
    this.remembering = setTimeout(() => {
      const all = address.parameters(this.data, this.view, this.pictures[0]);
      history.replaceState(history.state, "", `${location.pathname}${all.size ? `?${all}` : ""}`);
    }, 250);
  }

  /** Fetch and show the images of the panes. */
  async load() {
    const { data, parts } = this;
    const loading = (this.loading = {});
    while (this.pictures.length > data.panes.length) {
      const old = this.pictures.pop();
      this.sizes.unobserve(old.canvas);
      old.frame.remove();
    }
    while (this.pictures.length < data.panes.length) this.pictures.push(this.picture());
    parts.empty.hidden = data.panes.length > 0;
    const names = [data.first, data.second].filter(Boolean);
    const stale = () => this.loading !== loading;
    const came = () => {
      this.side();
      this.captions();
    };
    const filled = data.panes.map((pane, n) => {
      const at = n === 0 ? this.view.at : null;
      return fill(this.pictures[n], pane, { names, runs: data.runs }, { at, drawn: () => this.drawn(), stale, came });
    });
    this.side();
    await Promise.all(filled);
    if (stale()) return;
    this.view.at = null;
    this.side();
    this.bar();
    this.doubt();
    this.approach();
    this.captions();
    parts.stage.dataset.shown = data.panes.map(({ name }) => name).join(" ");
    await Promise.all(this.pictures.map(async (picture) => (picture.scores = (await picture.scored) || {})));
    if (stale()) return;
    this.side();
    packets.ahead(data.ahead, names);
  }

  /** Nothing is fetched that is not shown. */
  doubt() {
    const { data, loading, view } = this;
    if (view.doubt && data.selection) selections.fetchDoubt(data, this.pictures, () => this.loading !== loading);
  }

  picture() {
    const canvas = h("canvas", { tabindex: 0 }), caption = h("div", { class: "caption" }), note = h("div", { class: "note" });
    const frame = h("div", { class: "pane" }, canvas, caption, note);
    this.parts.stage.insertBefore(frame, this.parts.tip);
    const picture = new Picture(canvas, {
      hover: (...at) => pointed(this, ...at),
      chosen: (from, bits) => this.pick(bits),
      moved: () => this.remember(),
      window: (dx, dy) => this.window(dx, dy),
    });
    Object.assign(picture, { frame, caption, note, awaited: [], scores: {}, faults: {} });
    this.sizes.observe(canvas);
    picture.resize();
    return picture;
  }

  /** What the pictures are drawn with. */
  drawn() {
    const { data, view } = this;
    const colours = data.classes.map(({ colour }) => colour);
    return {
      ...view, blinked: this.blinked, bare: this.bare, colours, words: colours.map(word), layers: data,
      truth: data.truth, prediction: data.prediction, tolerance: data.tolerance, truthWord: word(data.truth), predictionWord: word(data.prediction),
    };
  }

  /** Change the view and draw. */
  look(changes) {
    if ("chosen" in changes) this.view.also = 0;
    Object.assign(this.view, changes);
    const drawn = this.drawn();
    this.pictures.forEach((picture) => picture.set(drawn));
    this.captions();
    if (!Object.keys(changes).length) return;
    if (changes.doubt) this.doubt();
    this.remember();
    this.side();
    this.bar();
  }

  /** The name of each image, and of what is drawn over it where that is one of two. */
  captions() {
    const { data, view, bare } = this;
    this.pictures.forEach((picture, n) => {
      const sides = bare || view.style === "none" || !data.second ? [] : picture.sides();
      const layer = sides.length === 1 ? data[sides[0][0]] : "";
      picture.caption.textContent = [data.panes[n]?.name, layer].filter(Boolean).join("  ·  ");
    });
  }

  /** The darkest and the brightest grey level that a window set here reaches. */
  get range() {
    return this.attended?.image || { darkest: 0, brightest: 255 };
  }

  window(dx, dy) {
    const { darkest, brightest } = this.range;
    const width = Math.max(2, this.view.high - this.view.low + dx), level = (this.view.low + this.view.high) / 2 + dy / 2;
    const low = Math.max(darkest, Math.min(brightest - 2, Math.round(level - width / 2)));
    this.look({ low, high: Math.max(low + 2, Math.min(brightest, Math.round(level + width / 2))) });
  }

  /** Choose among the bones that lie over each other: a second click takes the next. */
  pick(bits) {
    const found = bitsOf(bits);
    this.look({ chosen: found.length ? found[(found.indexOf(this.view.chosen) + 1) % found.length] : -1 });
  }

  attend(n) {
    if (n === this.focus) return;
    this.focus = n;
    this.rail();
    this.side();
    this.bar();
  }

  rail() {
    const { rail } = this.parts, { data } = this;
    const key = JSON.stringify([data.rows, data.hint]);
    if (key !== this.rows_) {
      this.rows_ = key;
      rail.replaceChildren(h("div", { class: "count" }), data.hint ? h("div", { class: "hint" }, data.hint) : "", rails.rows(data, (place) => this.go(place)));
    }
    rails.select(rail, data, data.panes[this.focus]?.place);
  }

  bar() {
    const { data, view } = this;
    renew(this.parts.bar, ...bars.controls({ data, view, open: this.toneOpen, range: this.range }, {
      step: (by) => this.step(by), look: (changes) => this.look(changes), tone: (changes) => this.tone(changes),
      open: (open) => (this.toneOpen = open), fit: () => this.fit(), help: () => this.help(),
      actual: () => this.each((picture) => picture.zoom(1 / picture.place.scale)),
    }));
    this.status();
  }

  status() {
    const { data, view, pane, compared } = this;
    this.parts.status.replaceChildren(...bars.facts({ data, view, pane, compared }));
  }

  /** The picture that list of bones, decisions and keys are about: the one the pointer was over last. */
  get attended() {
    return this.pictures[this.focus];
  }

  /** Whether the image has labels in both layers. */
  get compared() {
    return Boolean(this.attended?.first && this.attended?.second);
  }

  /** The image of it. */
  get pane() {
    return this.data.panes[this.focus];
  }

  /** The name of the chosen bone; empty for none. */
  get chosen() {
    return this.data.classes[this.view.chosen]?.name || "";
  }

  /** As `look`, while a slider is held: what holds it stays. */
  tone(changes) {
    Object.assign(this.view, changes);
    this.pictures.forEach((picture) => picture.set(this.drawn()));
    this.remember();
  }

  side() {
    // Of both hands, the one that list and decisions are about.
    this.pictures.forEach((each) => each.frame.classList.toggle("attended", this.data.panes.length > 1 && each === this.attended));
    side(this);
  }

  say(text) {
    this.parts.status.querySelector(".where").textContent = text;
  }

  choose(k) {
    this.look({ chosen: k });
    if (k < 0) return;
    const bit = 1 << k;
    if (!(this.view.mask & bit)) this.look({ mask: this.view.mask | bit });
    this.zoomTo(k);
  }

  zoomTo(...bones) {
    this.each((picture) => {
      const box = around(bones.flatMap((k) => [picture.first?.boxes[k], picture.second?.boxes[k]]));
      if (!box) return;
      picture.fitted = false;
      picture.zoomTo(box, 3);
    });
  }

  fit() {
    this.each((picture) => picture.fit());
    this.remember();
  }

  each(change) {
    this.pictures.filter((picture) => picture.image).forEach(change);
  }

  go(place) {
    this.tell({ go: place });
  }

  step(by) {
    const place = steps.next(this, by);
    if (place !== undefined) this.go(place);
  }

  stepWaiting(by) {
    const place = steps.nextWaiting(this, by);
    if (place === undefined) this.say("No other image of the list waits for a verdict.");
    else this.go(place);
  }

  stepBone(by) {
    this.choose(steps.nextBone(this, by));
    this.parts.side.querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
  }

  help() {
    const { help } = this.parts;
    help.hidden = !help.hidden;
    help.replaceChildren(...bars.help());
  }
}

/** "#rrggbb" as a pixel of ImageData, opaque. */
function word(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}
