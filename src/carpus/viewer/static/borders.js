// The border of a class in one label map held against that in another: where they agree, and where they do not.

import { loops, simplified } from "./labels.js";

const AGREED = 0, OUTSIDE = 1, INSIDE = 2;

/**
 * The border of class k in `own` as three Path2Ds in label pixels: `agreed` where `other` has a border pixel within
 * `tolerance` pixels, which is what the surface Dice counts, and elsewhere `outside` or `inside` of the other's class.
 */
export function departures(own, other, k, tolerance, coarse) {
  if (own.heldAgainst !== other) Object.assign(own, { heldAgainst: other, departures: new Map() });
  const key = 2 * k + (coarse ? 1 : 0);
  if (!own.departures.has(key)) {
    const paths = [new Path2D(), new Path2D(), new Path2D()];
    const told = own.boxes[k] && teller(own, other, k, tolerance);
    for (const loop of loops(own, k))
      for (const { of, points, closed } of pieces(loop, told)) draw(paths[of], points, closed, coarse);
    own.departures.set(key, { agreed: paths[AGREED], outside: paths[OUTSIDE], inside: paths[INSIDE] });
  }
  return own.departures.get(key);
}

/** What a border pixel (x, y) of `own` is. */
function teller(own, other, k, tolerance) {
  const { left, top, right, bottom } = own.boxes[k], width = right - left, reach = Math.ceil(tolerance);
  const near = new Uint8Array(width * (bottom - top));
  for (const loop of loops(other, k))
    along(loop, (corner, cornerX, cornerY, x, y) => {
      const [from, to] = [Math.max(left, x - reach), Math.min(right - 1, x + reach)];
      for (let v = Math.max(top, y - reach); v <= Math.min(bottom - 1, y + reach); v++)
        for (let u = from; u <= to; u++)
          if ((u - x) * (u - x) + (v - y) * (v - y) <= tolerance * tolerance) near[(v - top) * width + u - left] = 1;
    });
  const inside = (x, y) => x < other.width && y < other.height && (other.words[y * other.width + x] >>> k) & 1;
  return (x, y) => (near[(y - top) * width + x - left] ? AGREED : inside(x, y) ? INSIDE : OUTSIDE);
}

/** Follow a border pixel by pixel: whether the line turns here, where it is, and the border pixel beside it. */
function along(loop, met) {
  for (let i = 0; i < loop.length; i += 2) {
    const next = (i + 2) % loop.length, [endX, endY] = [loop[next], loop[next + 1]];
    let [x, y] = [loop[i], loop[i + 1]];
    const dx = Math.sign(endX - x), dy = Math.sign(endY - y);
    // The class is on the right hand.
    const right = dx < 0 || dy > 0 ? -1 : 0, down = dx < 0 || dy < 0 ? -1 : 0;
    for (let corner = true; x !== endX || y !== endY; x += dx, y += dy, corner = false) met(corner, x, y, x + right, y + down);
  }
}

/** A border cut wherever what it is changes: [{of, points: [x, y, ...], closed}]. */
function pieces(loop, told) {
  const found = [];
  along(loop, (corner, x, y, pixelX, pixelY) => {
    const of = told(pixelX, pixelY), last = found.at(-1);
    if (last?.of === of) corner && last.points.push(x, y);
    else {
      last?.points.push(x, y);
      found.push({ of, points: [x, y], closed: false });
    }
  });
  const [first] = found, last = found.at(-1);
  last.points.push(loop[0], loop[1]);
  if (found.length === 1) return [{ ...first, points: loop, closed: true }];
  if (last.of === first.of) {
    // It was cut where the line begins, which is nowhere special.
    first.points = last.points.concat(first.points.slice(2));
    found.pop();
  }
  return found;
}

function draw(path, points, closed, coarse) {
  const kept = coarse ? simplified(points, 0.8, closed) : points;
  path.moveTo(kept[0], kept[1]);
  for (let i = 2; i < kept.length; i += 2) path.lineTo(kept[i], kept[i + 1]);
  if (closed) path.closePath();
}
