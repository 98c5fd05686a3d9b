// What the address says of how pictures are drawn; see `view.py` for its words.

const DRAWING = ["style", "compare", "opacity", "window", "gamma", "invert"];
const KEPT = ["style", "compare", "opacity", "low", "high", "gamma", "invert"];

/** The part of a view that is about drawing, as numbers; that which was `left` where Python has it unchanged since. */
export function opened({ view, classes }, left) {
  const index = (name) => classes.findIndex((each) => each.name === name);
  const [low, high] = (/^(-?\d+)-(-?\d+)$/.exec(view.window)?.slice(1) || [0, 255]).map(Number);
  const names = view.bones.split(",").filter((name) => name === "none" || index(name) >= 0);
  const mask = classes.reduce((bits, { name }, k) => (!names.length || names.includes(name) ? bits | (1 << k) : bits), 0);
  const at = view.at ? view.at.split(",").map(Number) : null;
  const same = left && DRAWING.every((name) => left.given[name] === view[name]) ? left.view : null;
  return {
    style: view.style, compare: view.compare, opacity: view.opacity, mask, chosen: index(view.chosen),
    ...(high > low ? { low, high } : { low: 0, high: 255 }), gamma: view.gamma, invert: view.invert,
    doubt: view.doubt, at: at && at.length === 3 && at.every(Number.isFinite) ? at : null,
    ...(same && Object.fromEntries(KEPT.map((name) => [name, same[name]]))),
  };
}

/** All parameters of the address: Python's own, and how `picture` is drawn. */
export function parameters({ address, classes }, view, picture) {
  const all = new URLSearchParams(address);
  const names = classes.filter((_, k) => (view.mask >>> k) & 1).map(({ name }) => name);
  const own = {
    style: view.style !== "outline" && view.style, compare: view.compare !== "difference" && view.compare,
    opacity: view.opacity !== 0.35 && String(view.opacity), chosen: view.chosen >= 0 && classes[view.chosen].name,
    bones: names.length < classes.length && (names.join(",") || "none"), gamma: view.gamma !== 1 && view.gamma,
    window: (view.low !== 0 || view.high !== 255) && `${view.low}-${view.high}`, invert: view.invert && "1", doubt: view.doubt && "1",
    at: picture && !picture.fitted && [picture.place.x, picture.place.y, picture.place.scale].map((n) => +n.toFixed(2)).join(","),
  };
  for (const [name, value] of Object.entries(own)) if (value) all.set(name, value);
  return all;
}
